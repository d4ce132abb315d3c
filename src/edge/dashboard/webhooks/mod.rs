//! Pages of the webhooks at `/dashboard/settings/webhooks`, which the API calls subscriptions too.

pub(super) mod actions;
pub(super) mod detail;
pub(super) mod edit;
mod event_picker;
mod fields;
pub(super) mod list;
mod state;
mod trial;
