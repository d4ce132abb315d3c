//! View of an unverified request: the bytes over which signatures are computed.

use std::fmt;

/// One request as its sender made it, not yet verified.
#[derive(Clone)]
pub struct RequestView<'r> {
    /// Method in capitals; mostly `POST`.
    pub method: &'r str,
    /// Whole URL that the sender called, with its query. Some schemes sign it.
    pub url: &'r str,
    /// Headers in the order received, with names in lower case.
    pub headers: Vec<(&'r str, &'r [u8])>,
    /// Bytes of the body as they were received.
    pub body: &'r [u8],
}

impl<'r> RequestView<'r> {
    /// Returns the value of the first header `name` (in lower case), without surrounding spaces;
    /// `None` if there is none or it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'r str> {
        let (_, value) = self.headers.iter().find(|(known, _)| *known == name)?;
        std::str::from_utf8(value).ok().map(str::trim_ascii)
    }

    /// Returns the value of the header `name` (in lower case) if the request has it once; `None` if
    /// it is missing or repeated. Of two credentials, nobody knows which one a proxy checked.
    #[must_use]
    pub fn single_header(&self, name: &str) -> Option<&'r str> {
        let is_repeated = self.header_lines(name).nth(1).is_some();
        self.header(name).filter(|_| !is_repeated)
    }

    /// Returns the values of all headers `name` (in lower case), without surrounding spaces; those
    /// that are not UTF-8 are empty.
    pub fn header_lines(&self, name: &str) -> impl Iterator<Item = &'r str> {
        let lines = self.headers.iter().filter(move |(known, _)| *known == name);
        lines.map(|(_, value)| std::str::from_utf8(value).unwrap_or_default().trim_ascii())
    }

    /// Returns the path of the URL as the sender spelled it; `/` if it has none.
    #[must_use]
    pub fn path(&self) -> &'r str {
        let end = self.url.find(['?', '#']).unwrap_or(self.url.len());
        let before_query = &self.url[..end];
        let path = match before_query.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |start| &rest[start..]),
            None => before_query,
        };
        if path.is_empty() { "/" } else { path }
    }

    /// Returns the query of the URL, without `?` and fragment; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &'r str {
        let without_fragment = self.url.split('#').next().unwrap_or_default();
        without_fragment
            .split_once('?')
            .map_or("", |(_, query)| query)
    }
}

/// Shows sizes only: headers hold credentials, and bodies hold personal data.
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
