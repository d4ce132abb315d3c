//! A request as its sender made it: what signatures are computed over, before anything of it is
//! believed.

use std::fmt;

/// A view of one request.
#[derive(Clone)]
pub struct RequestView<'r> {
    /// `POST`, mostly.
    pub method: &'r str,
    /// The whole URL that the sender called, with its query: some sign it.
    pub url: &'r str,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(&'r str, &'r [u8])>,
    /// The body's bytes as they came.
    pub body: &'r [u8],
}

impl<'r> RequestView<'r> {
    /// The value of the first header `name` (lower case) as text, without spaces around it; `None`
    /// also if it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'r str> {
        let (_, value) = self.headers.iter().find(|(given, _)| *given == name)?;
        std::str::from_utf8(value).ok().map(str::trim_ascii)
    }

    /// What stands between `?` and the end of the URL; empty without one.
    #[must_use]
    pub fn query(&self) -> &'r str {
        let without_fragment = self.url.split('#').next().unwrap_or_default();
        without_fragment
            .split_once('?')
            .map_or("", |(_, query)| query)
    }
}

/// Says how large it is: headers hold credentials, and bodies are nobody's business.
impl fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Request({}, {} headers, {} bytes)",
            self.method,
            self.headers.len(),
            self.body.len()
        )
    }
}
