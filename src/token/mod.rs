//! Named tokens of the API: definitions, secrets, and the table of what each role may do.

mod codec;
mod definition;
mod registry;
mod role;
mod secret;

pub use definition::{NamedToken, PublishScope, TOKEN_NAME_MAX_BYTES, is_valid_token_name};
pub use registry::{TokenChangeError, TokenRegistry, TokenSnapshot};
pub use role::{AccessOperation, TokenRole};
pub use secret::{TOKEN_PREFIX, TokenHash, generate_token_secret};
