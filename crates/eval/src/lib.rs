//! Heads, protocols, robust evaluation and the bound measured on real encoders.
