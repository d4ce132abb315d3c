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
const FILES: [(&str, &str, &[u8]); 4] = [
    asset!("swagger-ui.css", "text/css; charset=utf-8"),
    asset!("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    asset!("favicon-16x16.png", "image/png"),
    asset!("favicon-32x32.png", "image/png"),
];

/// Returns the media type and the bytes of the file `name`.
pub(super) fn find_asset(name: &str) -> Option<(&'static str, &'static [u8])> {
    let (_, media_type, bytes) = FILES.into_iter().find(|(file, ..)| *file == name)?;
    Some((media_type, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        for (name, ..) in FILES {
            assert!(
                find_asset(name).is_some_and(|(_, bytes)| bytes.len() > 100),
                "{name}"
            );
        }
        assert!(find_asset("swagger-ui.js.map").is_none());
        assert!(find_asset("../../etc/passwd").is_none());
    }
}
