//! Sets of HTTP methods: the methods of an operation, and the `Allow` header of a path.

use std::fmt;

use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use utoipa::openapi::HttpMethod;

/// Each method with its bit, in the order in which `Allow` lists methods.
const BITS: [(u8, &str); 5] = [
    (1, "GET"),
    (2, "HEAD"),
    (4, "POST"),
    (8, "PUT"),
    (16, "DELETE"),
];

/// Set of the methods of a path or of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodSet(u8);

impl MethodSet {
    /// `GET` without `HEAD`, for handshakes of senders.
    pub const GET: Self = Self(1);
    /// `HEAD` without `GET`, for senders that validate an address by it.
    pub const HEAD: Self = Self(2);
    /// `GET` and `HEAD`, for all reads.
    pub const READ: Self = Self(1 | 2);
    /// `POST` as the only method.
    pub const POST: Self = Self(4);
    /// `PUT` as the only method.
    pub const PUT: Self = Self(8);
    /// `DELETE` as the only method.
    pub const DELETE: Self = Self(16);

    /// Returns the methods of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the method under which the OpenAPI description lists an operation; `HEAD` is implied
    /// by `GET`.
    pub(super) fn documented(self) -> HttpMethod {
        match self {
            Self::PUT => HttpMethod::Put,
            Self::DELETE => HttpMethod::Delete,
            Self::POST => HttpMethod::Post,
            _ => HttpMethod::Get,
        }
    }

    fn contains(self, method: &Method) -> bool {
        BITS.iter()
            .any(|(bit, name)| self.0 & bit != 0 && *name == method.as_str())
    }

    /// Makes a route guard that passes requests with these methods.
    pub(super) fn guard(self) -> impl Guard + 'static {
        guard::fn_guard(move |context| self.contains(&context.head().method))
    }
}

impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = BITS
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_listed_in_one_order() {
        let all = [MethodSet::DELETE, MethodSet::POST, MethodSet::READ]
            .into_iter()
            .reduce(MethodSet::union);
        assert_eq!(
            all.unwrap_or_default().to_string(),
            "GET, HEAD, POST, DELETE"
        );
        assert_eq!(
            MethodSet::GET.union(MethodSet::POST).to_string(),
            "GET, POST"
        );
        assert!(MethodSet::READ.contains(&Method::HEAD) && !MethodSet::GET.contains(&Method::HEAD));
    }
}
