use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// `header` returns the value of a header; `body` is the body as received; `now` is Unix time in
/// seconds.
pub fn is_authentic<'h>(
    secret: &str,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now: u64,
) -> bool {
    let (Some(id), Some(sent), Some(signatures)) = (
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
    ) else {
        return false;
    };
    if !sent
        .parse::<u64>()
        .is_ok_and(|sent| now.abs_diff(sent) <= 300)
    {
        return false;
    }
    let key = match secret.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).unwrap_or_default(),
        None => secret.as_bytes().to_vec(),
    };
    let signed = [id.as_bytes(), b".", sent.as_bytes(), b".", body].concat();
    let mac = Hmac::<Sha256>::new_from_slice(&key)
        .expect("HMAC takes keys of any length")
        .chain_update(signed);
    let given = signatures
        .split(' ')
        .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    given
        .into_iter()
        .any(|signature| mac.clone().verify_slice(&signature).is_ok())
}
