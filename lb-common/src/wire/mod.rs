//! Wire formats: offsets and constants, and the two functions that touch packet memory.
