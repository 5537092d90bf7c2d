//! Prints what an import of a vault would do: `cargo run -p cairn-interchange --example plan -- FOLDER [-v]`.

use std::path::Path;
use std::time::Instant;

use cairn_interchange::ids::Ids;
use cairn_interchange::import;
use cairn_interchange::vault::{ScanError, ScanOptions};
use uuid::Uuid;

fn main() -> Result<(), ScanError> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "examples/vault".to_owned());
    let verbose = arguments.next().is_some();
    let ids = Ids { brain: Uuid::nil(), vault: Uuid::nil() };
    let started = Instant::now();
    let plan = import(Path::new(&folder), &ScanOptions::default(), &ids, &mut |_, _| ())?;
    let took = started.elapsed();
    for memory in plan.memories.iter().filter(|_| verbose) {
        println!("{:8} {} | {}", memory.kind.name(), memory.key, memory.title);
        for (name, value) in &memory.fields {
            println!("           {name} = {}", value.display());
        }
        println!("           tags {:?}, {} links, {} bytes", memory.tags, memory.links.len(), memory.body.len());
    }
    for problem in &plan.problems {
        println!("{problem}");
    }
    for link in plan.unresolved.iter().filter(|_| verbose) {
        println!("{}:{}: nothing is called `{}`", link.path, link.line, link.name);
    }
    println!("{:#?}\n{took:?}", plan.counts);
    Ok(())
}
