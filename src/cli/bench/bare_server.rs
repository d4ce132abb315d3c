//! Bare handler for the baseline: actix-web reads the body, verifies its signature and answers 202.
//! It keeps nothing, so no node can be cheaper.

use std::io;
use std::path::Path;

use actix_web::http::header::HeaderMap;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::child_server::{ServerProgram, find_free_port};
use super::error::BenchError;
use super::machine::count_cores;
use super::own_node::OwnNodeSecrets;
use super::target::SUPPORT_PATH;
use crate::config::Secret;
use crate::edge::signature::SignatureVerifier;

/// Hidden option that makes this program the bare handler.
pub(super) const BARE_OPTION: &str = "--serve-bare";

/// Environment variable with the secret of the bare handler.
const SECRET_VARIABLE: &str = "BENCH_BARE_SECRET";

/// Describes the process of the bare handler.
pub(super) fn bare_program(
    folder: &Path,
    secrets: &OwnNodeSecrets,
) -> Result<ServerProgram, BenchError> {
    let port = find_free_port()?;
    let secret = secrets.signer.secret.expose().to_owned();
    Ok(ServerProgram {
        arguments: vec!["bench".to_owned(), BARE_OPTION.to_owned(), port.to_string()],
        environment: vec![(SECRET_VARIABLE.to_owned(), secret)],
        port,
        ready_path: "/",
        log_file: folder.join("bare.log"),
    })
}

/// Serves until the process is killed.
pub(super) fn serve_bare(port: u16) -> io::Result<()> {
    let secret = Secret::new(std::env::var(SECRET_VARIABLE).unwrap_or_default());
    actix_rt::System::new().block_on(async {
        let verifier = web::Data::new(SignatureVerifier::new(&[secret]));
        let app = move || {
            App::new()
                .app_data(verifier.clone())
                .route("/", web::get().to(HttpResponse::Ok))
                .route(SUPPORT_PATH, web::post().to(answer_event))
        };
        let server = HttpServer::new(app)
            .workers(count_cores())
            .bind(("127.0.0.1", port))?;
        server.run().await
    })
}

async fn answer_event(
    request: HttpRequest,
    body: web::Bytes,
    verifier: web::Data<SignatureVerifier>,
) -> HttpResponse {
    let headers = request.headers();
    let signed_at = header_bytes(headers, "x-crm-timestamp");
    let signature = header_bytes(headers, "x-crm-signature");
    match verifier.verify(&body, signed_at, signature) {
        Some(_) => HttpResponse::Accepted()
            .content_type("application/json")
            .body("{\"status\":\"accepted\"}"),
        None => HttpResponse::Unauthorized().finish(),
    }
}

fn header_bytes<'h>(headers: &'h HeaderMap, name: &str) -> &'h [u8] {
    headers
        .get(name)
        .map(|value| value.as_bytes())
        .unwrap_or_default()
}
