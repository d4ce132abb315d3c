//! Damaged, foreign and newer stores are refused, and nothing of them is touched.
