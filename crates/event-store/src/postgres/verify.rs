//! Looking through a log for damage. Changes of what events say are the notary's to find.
