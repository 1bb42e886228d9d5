//! A request that is not answered: status and JSON that say where, what was found and what was expected.
//!
//! ```text
//! 429, Retry-After: 1
//! {"error": "32 pictures wait or run, the limit is 32", "hint": "try again"}
//! ```

use std::borrow::Cow;

use anyhow::Error;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use vgg_edge_engine::image::DecodeError;

use crate::output;

/// Why there is no answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refusal {
    #[serde(skip)]
    pub(crate) status: StatusCode,
    pub(crate) error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<Cow<'static, str>>,
    #[serde(skip)]
    also: Also,
}

/// A header that comes with it.
#[derive(Clone, Copy, Debug)]
enum Also {
    Nothing,
    RetryAfter,
    Close,
    Bearer,
}

impl Also {
    fn header(self) -> Option<(HeaderName, &'static str)> {
        match self {
            Self::Nothing => None,
            Self::RetryAfter => Some((header::RETRY_AFTER, "1")),
            Self::Close => Some((header::CONNECTION, "close")),
            Self::Bearer => Some((header::WWW_AUTHENTICATE, "Bearer realm=\"vgg-edge\"")),
        }
    }
}

impl Refusal {
    /// The same for one of several pictures.
    pub(crate) fn at(self, image: &str) -> Self {
        Self { error: format!("{image}: {}", self.error), ..self }
    }

    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: None, also: Also::Nothing }
    }

    pub(crate) fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// For what passes by itself: a second later.
    pub(crate) fn busy(status: StatusCode, error: impl Into<String>) -> Self {
        Self { also: Also::RetryAfter, ..Self::new(status, error).hint("try again a second later") }
    }

    /// The rest of the body is not read, so no other request can follow on the connection.
    pub(crate) fn closing(self) -> Self {
        Self { also: Also::Close, ..self }
    }

    /// The header with which a client may be asked for its token.
    pub(crate) fn unauthorized(error: &str) -> Self {
        let hint = "send the header `Authorization: Bearer TOKEN` with the token of --token-file";
        Self { also: Also::Bearer, ..Self::new(StatusCode::UNAUTHORIZED, error).hint(hint) }
    }

    /// For a picture that the decoder or the network refuses.
    pub(crate) fn of_picture(error: &Error) -> Self {
        let status = match error.downcast_ref::<DecodeError>() {
            Some(DecodeError::Empty) => StatusCode::BAD_REQUEST,
            Some(DecodeError::NotAPicture { .. } | DecodeError::Unsupported { .. }) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Some(DecodeError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
            None => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let hint = output::hint(error).map(Cow::Borrowed);
        Self { hint, ..Self::new(status, format!("{error:#}")) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let json = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], json).into_response();
        if let Some((name, value)) = self.also.header() {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
