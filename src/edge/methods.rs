//! Sets of HTTP methods: which ones an operation answers, and what the `Allow` header of a path
//! lists.

use std::fmt;

use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use utoipa::openapi::HttpMethod;

/// Each method with the bit that stands for it, in the order in which `Allow` lists them.
const BITS: [(u8, &str); 5] = [
    (1, "GET"),
    (2, "HEAD"),
    (4, "POST"),
    (8, "PUT"),
    (16, "DELETE"),
];

/// Methods that a path or an operation takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodSet(u8);

impl MethodSet {
    /// `GET` alone.
    pub const GET: Self = Self(1);
    /// `GET` and `HEAD`.
    pub const READ: Self = Self(1 | 2);
    /// `POST`.
    pub const POST: Self = Self(4);
    /// `PUT`.
    pub const PUT: Self = Self(8);
    /// `DELETE`.
    pub const DELETE: Self = Self(16);

    /// The methods of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The method under which the description of the API has an operation; that it takes `HEAD` too
    /// is understood.
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

    /// Lets requests with these methods pass.
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
