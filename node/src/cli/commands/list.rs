//! `cairn list` and `cairn tags`

use crate::cli::args::{Archived, ListArgs, Order, Sort, TagsArgs};
use crate::cli::client::{Client, RawPage};
use crate::cli::error::CliError;
use crate::cli::model::{Summary, TagCount};
use crate::cli::moment::{DayEnd, Moment};
use crate::cli::screen::Screen;
use crate::cli::{reference, view};

/// Lists memories.
///
/// # Errors
/// When the node cannot be asked.
pub async fn run(client: &Client, screen: &Screen, args: &ListArgs) -> Result<(), CliError> {
    let mut request = client
        .get(&["memories"])
        .maybe("kind", joined(args.kind.iter().map(|kind| kind.name())))
        .maybe("tag", joined(args.tag.iter().map(String::as_str)))
        .maybe("q", args.title.as_deref())
        .maybe("truth", args.truth.map(|truth| truth.name()))
        .query("archived", archived(args.archived))
        .maybe("updated_after", time(args.updated_after, DayEnd::Start, screen)?)
        .maybe("updated_before", time(args.updated_before, DayEnd::End, screen)?)
        .maybe("created_after", time(args.created_after, DayEnd::Start, screen)?)
        .maybe("created_before", time(args.created_before, DayEnd::End, screen)?)
        .query("sort", sort(args.sort))
        .maybe("order", args.order.map(order));
    if let Some(name) = &args.linked_to {
        request = request.query("linked_to", reference::memory(client, name).await?);
    }
    for (name, value) in &args.filters {
        request = request.query(name, value);
    }
    let page = request.pages(args.page.limit as usize, args.page.cursor.as_deref()).await?;
    screen.list(&page, "There are no memories like that.", |memories: &[Summary]| {
        if screen.quiet {
            return memories.iter().map(|memory| format!("{}\n", memory.id)).collect();
        }
        view::memory::list(screen, memories)
    })
}

/// Lists tags with how many memories have them.
///
/// # Errors
/// When the node cannot be asked.
pub async fn tags(client: &Client, screen: &Screen, args: &TagsArgs) -> Result<(), CliError> {
    let mut page: RawPage = client.get(&["tags"]).send().await?.read()?;
    page.items.truncate(args.limit.map_or(usize::MAX, |limit| limit as usize));
    screen.list(&page, "There are no tags.", |tags: &[TagCount]| {
        if screen.quiet {
            return tags.iter().map(|tag| format!("{}\n", view::text::line(&tag.tag))).collect();
        }
        view::memory::tags(screen, tags)
    })
}

/// Words with commas between them; none when there are none.
pub fn joined<'a>(words: impl Iterator<Item = &'a str>) -> Option<String> {
    let words: Vec<&str> = words.collect();
    (!words.is_empty()).then(|| words.join(","))
}

/// A time as a query parameter.
///
/// # Errors
/// When it is a position.
pub fn time(moment: Option<Moment>, end: DayEnd, screen: &Screen) -> Result<Option<String>, CliError> {
    let time = moment.map(|moment| moment.to_time(end, screen.now)).transpose();
    time.map_err(|error| CliError::usage(error.to_string(), "log positions go with `cairn replay` and --as-of"))
}

const fn archived(archived: Archived) -> &'static str {
    match archived {
        Archived::No => "false",
        Archived::Only => "true",
        Archived::Any => "any",
    }
}

const fn sort(sort: Sort) -> &'static str {
    match sort {
        Sort::Updated => "updated",
        Sort::Created => "created",
        Sort::Title => "title",
        Sort::Due => "due",
    }
}

const fn order(order: Order) -> &'static str {
    match order {
        Order::Asc => "asc",
        Order::Desc => "desc",
    }
}
