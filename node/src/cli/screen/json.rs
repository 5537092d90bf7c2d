//! JSON for people: indented, the order of the fields and every digit kept.

/// How far each level is moved in.
const STEP: &str = "  ";

/// Indents a JSON text. Outside of strings only white space changes, inside of them control characters are escaped.
pub fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            // JSON lets some control characters through; a terminal must not obey them.
            match c.is_control() {
                true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                false => out.push(c),
            }
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            c if c == ' ' || c.is_control() => {}
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while rest.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => out.push(other),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_and_digits_stay() {
        let text = indented(r#"{"b":[1.50,{}],"a":"x: \"y\", z"}"#);
        assert_eq!(text, "{\n  \"b\": [\n    1.50,\n    {}\n  ],\n  \"a\": \"x: \\\"y\\\", z\"\n}");
    }

    proptest! {
        #[test]
        fn the_meaning_stays(keys in prop::collection::vec(".*", 0..5), text in ".*", number in any::<i64>()) {
            let value = serde_json::json!({ "keys": keys, "text": text, "deep": [[], {}, [number, { "x": null }]] });
            let indented = indented(&value.to_string());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&indented).expect("JSON"), value);
        }
    }
}
