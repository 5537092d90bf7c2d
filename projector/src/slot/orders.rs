//! Orders: carried out here where this process runs the projection, given to the one that does otherwise.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Slot;
use crate::orders::{Answer, ORDER_PATIENCE, Order, Orders, Told};
use crate::projector::ProjectorError;
use crate::run::pause;

/// How often whoever has ordered looks for the answer.
const ANSWER_POLL: Duration = Duration::from_millis(50);

impl Slot {
    /// Has something done by the process that runs the projection. Blocks.
    pub(crate) fn order(self: &Arc<Self>, order: Order) -> Result<(), ProjectorError> {
        if self.elsewhere().is_none() {
            return self.obey(order);
        }
        let projection = self.projection.name();
        let orders = self.generations.orders().ok_or(ProjectorError::Elsewhere { projection })?;
        let answer = self.answered(&orders, order)?;
        self.look();
        self.listen();
        answer.outcome(projection)
    }

    fn answered(&self, orders: &Orders, order: Order) -> Result<Answer, ProjectorError> {
        let projection = self.projection.name();
        let folder = |source| ProjectorError::Folder { projection, source };
        let (id, began) = (orders.place(order).map_err(folder)?, Instant::now());
        while began.elapsed() < ORDER_PATIENCE && !self.cancel.is_cancelled() {
            if let Some(answer) = orders.answer_to(id).map_err(folder)? {
                return Ok(answer);
            }
            pause(&self.handle, &self.cancel, ANSWER_POLL);
        }
        orders.withdraw(id).map_err(folder)?;
        Err(ProjectorError::Elsewhere { projection })
    }

    fn obey(self: &Arc<Self>, order: Order) -> Result<(), ProjectorError> {
        match order {
            Order::Rebuild(rebuild) => self.rebuild(rebuild).map(drop),
            Order::Cancel => self.cancel_build(),
            Order::Back => self.back().map(drop),
            Order::DropPrevious => self.drop_previous(),
        }
    }

    /// For the process that runs the projection: heeds pauses, carries out what others ordered, and tells them how the
    /// projection fares. Blocks.
    pub(crate) fn attend(self: &Arc<Self>) {
        let Some(orders) = self.generations.orders() else { return };
        let attended = self.heed().and_then(|()| {
            self.carry_out(&orders)
                .and_then(|()| self.tell(&orders))
                .map_err(|source| ProjectorError::Folder { projection: self.projection.name(), source })
        });
        if let Err(error) = attended {
            tracing::debug!(projection = self.projection.name(), %error, "orders cannot be looked for now");
        }
    }

    fn carry_out(self: &Arc<Self>, orders: &Orders) -> std::io::Result<()> {
        while let Some((id, order)) = orders.next()? {
            tracing::info!(projection = self.projection.name(), ?order, "another process has ordered");
            let answer = Answer::of(self.obey(order));
            // Whoever gets the answer looks at the rest next.
            self.tell(orders)?;
            orders.answer(id, &answer)?;
        }
        Ok(())
    }

    fn tell(&self, orders: &Orders) -> std::io::Result<()> {
        let standing = self.standing();
        let told = Told { tidy: standing.tidy, problem: standing.problem, rebuild: standing.rebuild };
        if *self.told() != told {
            orders.tell(&told)?;
            *self.told() = told;
        }
        Ok(())
    }

    /// For the others: heeds pauses, and hears what the process that runs the projection tells. Blocks.
    pub(crate) fn listen(&self) {
        let Some(orders) = self.generations.orders() else { return };
        let folder = |source| ProjectorError::Folder { projection: self.projection.name(), source };
        match self.heed().and_then(|()| orders.told().map_err(folder)) {
            Ok(told) => *self.told() = told,
            Err(error) => {
                tracing::debug!(projection = self.projection.name(), %error, "nothing can be heard now");
            }
        }
    }

    /// A poisoned lock is taken all the same: it holds what is replaced as a whole.
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
