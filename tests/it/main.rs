//! End-to-end tests: real HTTP against a real store in a temporary folder, one file for each
//! promise or contract.
#![expect(
    unreachable_pub,
    reason = "a test binary has no outside that its items could reach"
)]

mod accounts;
mod admin_commands;
mod alerts;
mod answers;
mod audit;
mod backups;
mod bench;
mod browser;
mod c2s;
mod call_log;
mod check;
mod ci_scripts;
mod clock_jumps;
mod cluster;
mod commands;
mod crashes;
mod crm;
mod custom_sources;
mod damaged_bytes;
#[path = "../../src/damaged_samples.rs"]
#[expect(dead_code, reason = "the unit tests use more of it")]
mod damaged_samples;
mod dashboard;
mod dead_letters;
mod deliveries;
mod demo;
mod disk_faults;
mod docs;
mod doctor;
mod duplicates;
mod durability;
mod encryption;
mod enrichment;
mod erasure;
mod event_schemas;
mod failures;
mod guides;
mod hooked_disk;
mod instagram;
mod leads;
mod limits;
mod listen;
mod listeners;
mod lists;
mod log_output;
mod logged_secrets;
mod metrics;
mod migration;
mod odd_spellings;
mod order;
mod power_cuts;
mod presets;
mod promises;
mod pull;
mod reads;
mod rebuild;
mod receiver;
mod reload;
mod replies;
mod retention;
mod send;
mod senders;
mod simulated_disk;
mod source_retention;
mod store_opening;
mod test_node;
mod tls;
mod token_senders;
mod tokens;
mod traces;
mod webhooks;
