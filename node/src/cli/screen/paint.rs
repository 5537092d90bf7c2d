//! Colours, or none.

use cairn_domain::truth::Truth;

/// Paints text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    coloured: bool,
}

impl Paint {
    /// No colours at all.
    pub const fn plain() -> Self {
        Self { coloured: false }
    }

    /// Colours as terminals understand them.
    pub const fn coloured() -> Self {
        Self { coloured: true }
    }

    /// A title.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// `error:`
    pub fn error(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// `hint:`
    pub fn hint(self, text: &str) -> String {
        self.with("1;36", text)
    }

    /// Something that needs a look.
    pub fn warning(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Good news.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What was added.
    pub fn added(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What went.
    pub fn removed(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Where in a diff one is.
    pub fn place(self, text: &str) -> String {
        self.with("36", text)
    }

    /// A word that was looked for.
    pub fn mark(self, text: &str) -> String {
        self.with("1;33", text)
    }

    /// A tag.
    pub fn tag(self, text: &str) -> String {
        self.with("36", text)
    }

    /// The code of a truth level, greener the higher it is.
    pub fn truth(self, truth: Truth) -> String {
        let colour = match truth {
            Truth::User => "1;32",
            Truth::Automation => "36",
            Truth::LocalAi => "34",
            Truth::NetworkAi => "35",
            Truth::CloudAi => "33",
        };
        self.with(colour, truth.code())
    }

    fn with(self, codes: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() { format!("\x1b[{codes}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
