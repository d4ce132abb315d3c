//! The files of Swagger UI, out of the archive that the binary holds.

use std::io::{Cursor, Read};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// The files that the page uses, with their media types.
const FILES: [(&str, &str); 4] = [
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("favicon-16x16.png", "image/png"),
    ("favicon-32x32.png", "image/png"),
];

/// The media type and the bytes of the file `name`. Unpacked each time: people who read the page are few, and the
/// memory is better used otherwise.
pub(super) fn find(name: &str) -> Option<(&'static str, Vec<u8>)> {
    let (name, media_type) = FILES.into_iter().find(|(file, _)| *file == name)?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).ok()?;
    let wanted = format!("/dist/{name}");
    let path = archive.file_names().flatten().find(|path| path.ends_with(&wanted))?.into_owned();
    let mut bytes = Vec::new();
    archive.by_name(&path).ok()?.read_to_end(&mut bytes).ok()?;
    Some((media_type, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_archive() {
        for (name, _) in FILES {
            assert!(find(name).is_some_and(|(_, bytes)| bytes.len() > 100), "{name}");
        }
        assert!(find("swagger-ui.js.map").is_none());
        assert!(find("../../etc/passwd").is_none());
    }
}
