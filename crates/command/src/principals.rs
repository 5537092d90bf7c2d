//! Principals: who may act, as events of the log. Secrets are kept elsewhere.

use std::sync::Arc;

use cairn_domain::event::{Event, PrincipalEvent, PrincipalRegistered, PrincipalRevoked};
use cairn_domain::id::{EventId, PrincipalId};
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_event_store::{AppendError, ExpectedRevision, NewAppend, Position, StreamAppend};
use uuid::Uuid;

use crate::codec::envelope;
use crate::error::CommandError;
use crate::handler::Handler;

/// A principal to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterPrincipal {
    /// Its id.
    pub id: PrincipalId,
    /// What people call it.
    pub name: String,
    /// The highest truth it may write at.
    pub ceiling: Truth,
    /// Where its writes come from unless they say more precisely.
    pub origin: Origin,
}

/// The stream that holds the events of one principal.
pub fn principal_stream(principal: PrincipalId) -> Arc<str> {
    format!("principal-{principal}").into()
}

impl Handler {
    /// Registers a principal, in the name of `by`.
    ///
    /// # Errors
    /// When it exists already, or the store does not answer.
    pub async fn register_principal(
        &self,
        new: RegisterPrincipal,
        by: &Principal,
    ) -> Result<Position, CommandError> {
        let stream = principal_stream(new.id);
        let registered = PrincipalRegistered { name: new.name, ceiling: new.ceiling, origin: new.origin };
        let event = Event::Principal(PrincipalEvent::Registered(registered));
        self.append_principal(stream, ExpectedRevision::NoStream, event, by).await.map_err(|error| match error {
            AppendError::WrongExpectedRevision { .. } => {
                CommandError::Principal { principal: new.id.uuid(), reason: "is registered already" }
            }
            other => CommandError::from_append(other),
        })
    }

    /// Records that a principal may act no longer.
    ///
    /// # Errors
    /// When it was never registered, or the store does not answer.
    pub async fn revoke_principal(
        &self,
        principal: PrincipalId,
        by: &Principal,
    ) -> Result<Position, CommandError> {
        let event = Event::Principal(PrincipalEvent::Revoked(PrincipalRevoked {}));
        let stream = principal_stream(principal);
        self.append_principal(stream, ExpectedRevision::StreamExists, event, by).await.map_err(|error| match error
        {
            AppendError::WrongExpectedRevision { .. } => {
                CommandError::Principal { principal: principal.uuid(), reason: "was never registered" }
            }
            other => CommandError::from_append(other),
        })
    }

    async fn append_principal(
        &self,
        stream: Arc<str>,
        expected: ExpectedRevision,
        event: Event,
        by: &Principal,
    ) -> Result<Position, AppendError> {
        let command = Uuid::now_v7();
        let metadata = self.metadata(by, by.ceiling, by.origin.clone(), command);
        let event = envelope(EventId::new(Uuid::now_v7()), &event, &metadata);
        let streams = vec![StreamAppend { stream, expected, events: vec![event] }];
        Ok(self.store().append(NewAppend { streams, tracking: None }).await?.position)
    }
}
