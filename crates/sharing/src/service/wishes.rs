//! Erasing everywhere, and what members wish that the owner of a space says: the owner's node answers, or leaves it to the owner.

use cairn_domain::id::MemoryId;
use cairn_domain::principal::Principal;
use cairn_sync::control::Control;
use cairn_sync::engine::{Input, Wish};
use cairn_sync::entry::Entry;
use cairn_sync::key::{Hash, SpaceId};
use cairn_sync::shared::principal_of;
use tracing::{info, warn};

use super::{Service, now};
use crate::erasing::Beginner;
use crate::error::SharingError;

/// What becomes of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Granted,
    Denied,
    /// This brain's owner has to decide.
    LeftToTheOwner,
    /// What it is about has not come yet.
    NotYet,
}

impl Service {
    /// Says that a memory is to be destroyed by everybody who has it, where this brain owns the space; else has the owner asked to say so.
    /// Destroys it here in the same append. Gives the space.
    pub(super) async fn erase(&mut self, memory: MemoryId, by: &Principal) -> Result<SpaceId, SharingError> {
        let space = self.keeper.place(memory).ok_or(SharingError::NotShared(memory))?;
        let rules = self.engine.replica().space(space).ok_or(SharingError::NoSpace(space))?;
        let (erased, at) = (Control::Erased { memory }, self.keeper.stamp().hlc);
        let owned = rules.owner() == self.engine.brain();
        let entries = if self.engine.speaks_for(space) {
            self.engine.control(space, &erased, at)?
        } else if owned || self.keeper.beginner(memory).await? == Beginner::Own {
            self.engine.wish(space, &erased, at, now())?
        } else {
            return Err(SharingError::NotBegunHere(memory));
        };
        self.keeper.keep_erasing(&entries, memory, by).await?;
        self.engine.take_said(&entries);
        self.input(Input::Said(entries)).await?;
        Ok(space)
    }

    /// Says something about a space, or wishes that its owner says it. Gives the entry.
    pub(super) async fn say_or_wish(
        &mut self,
        space: SpaceId,
        control: &Control,
        said: impl FnOnce(&Self) -> Result<Vec<Entry>, SharingError>,
    ) -> Result<Hash, SharingError> {
        if self.engine.replica().space(space).is_none() {
            return Err(SharingError::NoSpace(space));
        }
        let entries = match self.engine.speaks_for(space) {
            true => said(self)?,
            false => self.engine.wish(space, control, self.keeper.stamp().hlc, now())?,
        };
        self.say(entries).await
    }

    /// Answers what members wish, as far as that needs nobody's decision.
    pub(super) async fn answer_wishes(&mut self) -> Result<(), SharingError> {
        for wish in self.engine.wishes() {
            if self.left_to_the_owner.contains(&wish.id) {
                continue;
            }
            let verdict = match &wish.control {
                // The owner says so, at another device.
                _ if wish.by == self.engine.brain() => Verdict::Granted,
                Control::Erased { memory } => self.may_erase(*memory, &wish).await?,
                Control::Offered { to, .. } if self.engine.peers().get(to).is_some_and(|peer| peer.blocked) => {
                    Verdict::Denied
                }
                // An admin decides as the owner does, and who may pass on what it reads was let; the engine lets nobody else wish such a thing.
                _ => Verdict::Granted,
            };
            match verdict {
                Verdict::Granted | Verdict::Denied => {
                    match self.answer_wish(&wish, verdict == Verdict::Granted).await {
                        Err(SharingError::CannotSay(why)) => {
                            warn!(space = %wish.space, %why, "a member's wish cannot be answered; `cairn shares` shows it");
                            self.left_to_the_owner.insert(wish.id);
                        }
                        answered => answered?,
                    }
                }
                Verdict::NotYet => {}
                Verdict::LeftToTheOwner => {
                    info!(space = %wish.space, "a member wishes that a memory is destroyed everywhere; `cairn shares` shows it");
                    self.left_to_the_owner.insert(wish.id);
                }
            }
        }
        Ok(())
    }

    /// Whether a member's wish to erase a memory is granted: when they began it and this brain's user has said nothing in it.
    async fn may_erase(&self, memory: MemoryId, wish: &Wish) -> Result<Verdict, SharingError> {
        Ok(match (self.keeper.place(memory), self.keeper.beginner(memory).await?) {
            (Some(place), Beginner::Peer { principal, user_has_spoken }) if place == wish.space => {
                match (principal == principal_of(wish.by), user_has_spoken) {
                    (true, true) => Verdict::LeftToTheOwner,
                    (true, false) => Verdict::Granted,
                    (false, _) => Verdict::Denied,
                }
            }
            // Wishes come before what they are about. The owner can answer before.
            (_, Beginner::Unknown) => Verdict::NotYet,
            _ => Verdict::Denied,
        })
    }

    /// Answers one wish by the owner's decision.
    pub(super) async fn decide_wish(&mut self, wish: Hash, granted: bool) -> Result<(), SharingError> {
        let open = self.engine.wishes().into_iter().find(|open| open.id == wish);
        self.answer_wish(&open.ok_or(SharingError::NoWish(wish))?, granted).await
    }

    async fn answer_wish(&mut self, wish: &Wish, granted: bool) -> Result<(), SharingError> {
        let entries = self.engine.answer(wish, granted, self.keeper.stamp().hlc)?;
        self.say(entries).await?;
        if let Control::Erased { memory } = wish.control
            && granted
        {
            self.keeper.erase(wish.space, &[memory], &self.engine).await?;
        }
        Ok(())
    }
}
