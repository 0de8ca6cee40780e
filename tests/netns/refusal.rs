//! Bad input from outside: one error that says what, where, why and the mend, a documented exit code, and nothing
//! changed.
