//! Files of Swagger UI, which `build.rs` unpacks from their archive.

/// Embeds the file `name` with its media type.
macro_rules! asset {
    ($name:literal, $media_type:literal) => {
        (
            $name,
            $media_type,
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name)),
        )
    };
}

/// Files that the page loads: names, media types and bytes.
pub(super) const FILES: [(&str, &str, &[u8]); 4] = [
    asset!("swagger-ui.css", "text/css; charset=utf-8"),
    asset!("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    asset!("favicon-16x16.png", "image/png"),
    asset!("favicon-32x32.png", "image/png"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        for (name, _, bytes) in FILES {
            assert!(bytes.len() > 100, "{name}");
        }
    }
}
