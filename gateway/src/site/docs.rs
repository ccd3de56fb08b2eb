//! The API documentation: `/openapi.json`, `/service_config.json`, and Swagger UI at `/docs`, which loads nothing from
//! other servers.

use std::collections::HashMap;

use http::header;
use prost_reflect::DescriptorPool;
use service_kit::public_url::PublicUrl;

use crate::{
    openapi::Document,
    service_config::ServiceConfig,
    site::asset::{Asset, CSS, HTML, SCRIPT},
};

/// Allows resources of this origin only, and no inline scripts or styles. `data:` images are needed by the style
/// sheet of Swagger UI.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the files by path.
///
/// # Errors
/// If the OpenAPI document cannot be created.
pub fn assets(pool: &DescriptorPool, public_url: Option<&PublicUrl>) -> anyhow::Result<HashMap<&'static str, Asset>> {
    let mut document = Document::from_pool(pool)?;
    if let Some(url) = public_url {
        document.set_server(&url.without_slash());
    }
    let document = serde_json::to_vec(&document)?;
    let service_config = serde_json::to_vec(&ServiceConfig::from_pool(pool))?;
    let page = Asset::new(HTML, &include_bytes!("../../assets/docs/index.html")[..]);
    let style = Asset::compressed(CSS, include_bytes!("../../assets/docs/swagger-ui.css.gz"));
    let bundle = Asset::compressed(SCRIPT, include_bytes!("../../assets/docs/swagger-ui-bundle.js.gz"));
    let script = Asset::new(SCRIPT, &include_bytes!("../../assets/docs/docs.js")[..]);
    Ok(HashMap::from([
        ("/openapi.json", Asset::new("application/json", document)),
        ("/service_config.json", Asset::new("application/json", service_config)),
        ("/docs", page.with_header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)),
        ("/docs/docs.js", script),
        ("/docs/swagger-ui.css", style),
        ("/docs/swagger-ui-bundle.js", bundle),
    ]))
}
