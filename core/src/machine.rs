//! The contract of the three machines: facts in, orders out, no clock and no socket.

use crate::time::Time;

/// A state machine driven by its shell.
///
/// One mutation ([`handle`](Machine::handle) or [`expire`](Machine::expire)), then [`poll`](Machine::poll) until it
/// gives `None`, then look at [`deadline`](Machine::deadline). Never two mutations in a row.
pub trait Machine {
    /// Facts: what happened.
    type In;
    /// Orders: what the shell must do.
    type Out;

    /// Takes one fact. Cannot fail: a bad peer produces an order that closes it.
    fn handle(&mut self, now: Time, input: Self::In);
    /// The next order, in the order in which they must be carried out.
    fn poll(&mut self) -> Option<Self::Out>;
    /// When [`expire`](Machine::expire) wants to be called next, and why.
    fn deadline(&self) -> Option<(Time, &'static str)>;
    /// Tells the machine that time has passed; without effect before the deadline.
    fn expire(&mut self, now: Time);
}
