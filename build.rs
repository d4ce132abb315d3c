//! Takes the files of Swagger UI that the page at `/docs` uses out of their archive, so that the binary holds just those.

use std::fs;
use std::io::{Cursor, copy};
use std::path::Path;

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// The files that `src/edge/docs/assets.rs` serves.
const FILES: [&str; 4] = [
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "favicon-16x16.png",
    "favicon-32x32.png",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");

    let out_dir = std::env::var("OUT_DIR").expect("cargo sets it");
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("an archive");
    let entries: Vec<String> = archive
        .file_names()
        .flatten()
        .map(|path| path.into_owned())
        .collect();

    for name in FILES {
        // The folder that all entries are in has the version in its name, and variants of the page have a `dist` too.
        let is_wanted = |entry: &&String| {
            entry
                .split_once('/')
                .is_some_and(|(_, path)| path == format!("dist/{name}"))
        };
        let entry = entries
            .iter()
            .find(is_wanted)
            .unwrap_or_else(|| panic!("the archive has no dist/{name}"));
        let mut file =
            fs::File::create(Path::new(&out_dir).join(name)).expect("OUT_DIR takes files");
        copy(
            &mut archive.by_name(entry).expect("a listed entry"),
            &mut file,
        )
        .expect("an entry that unpacks");
    }
}
