//! The contract for programs, `/openapi.json`, and for people, `/docs`: Swagger UI, which is served from here alone.

use std::collections::HashMap;

use http::header;
use prost_reflect::DescriptorPool;

use crate::{
    openapi::Document,
    site::asset::{Asset, CSS, HTML, SCRIPT},
};

/// Nothing comes from elsewhere, no script or style stands in the page, and none is made of text. Swagger UI has images
/// in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files, by their paths.
///
/// # Errors
/// If the contract cannot be described.
pub fn assets(pool: &DescriptorPool) -> anyhow::Result<HashMap<&'static str, Asset>> {
    let document = serde_json::to_vec(&Document::of(pool)?)?;
    let page = Asset::new(HTML, &include_bytes!("../../assets/docs/index.html")[..]);
    let style = Asset::compressed(CSS, include_bytes!("../../assets/docs/swagger-ui.css.gz"));
    let bundle = Asset::compressed(SCRIPT, include_bytes!("../../assets/docs/swagger-ui-bundle.js.gz"));
    let script = Asset::new(SCRIPT, &include_bytes!("../../assets/docs/docs.js")[..]);
    Ok(HashMap::from([
        ("/openapi.json", Asset::new("application/json", document)),
        ("/docs", page.with_header(header::CONTENT_SECURITY_POLICY, POLICY)),
        ("/docs/docs.js", script),
        ("/docs/swagger-ui.css", style),
        ("/docs/swagger-ui-bundle.js", bundle),
    ]))
}
