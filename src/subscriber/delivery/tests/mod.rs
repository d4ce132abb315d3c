//! The promises of a delivery, under random histories and in single cases.

mod cases;
mod model;
mod property_tests;
