//! The web page: files in the program, nothing from elsewhere.
//!
//! ```text
//! GET /           page/index.html
//! GET /page.css   page/page.css
//! GET /page.js    page/page.js
//! GET /icon.svg   page/icon.svg
//! ```

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// What is served without a token: the page asks for it.
pub(crate) const PATHS: [&str; 4] = ["/", "/page.css", "/page.js", "/icon.svg"];

fn file(kind: &'static str, text: &'static str) -> Response {
    // A new version of the program has a new page.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The page's routes.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let [html, css, js, icon] = PATHS;
    Router::new()
        .route(html, get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route(css, get(async || file("text/css; charset=utf-8", include_str!("page/page.css"))))
        .route(js, get(async || file("text/javascript; charset=utf-8", include_str!("page/page.js"))))
        .route(icon, get(async || file("image/svg+xml", include_str!("page/icon.svg"))))
}
