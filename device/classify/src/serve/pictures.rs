//! `POST /v1/classify`: pictures to answers.
//!
//! ```text
//! body of any content type    one picture ─► {"image": "-", "top": [...], "ms": 4.1, "decode_ms": 2.0}
//! multipart/form-data         pictures ─► a list of those, in order; one that is refused is {"image": ..., "error": ...}
//! ?top=K                      classes in an answer, 5 without
//! ?name=NAME                  what the answer calls a picture that has no file name
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Error};
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::App;
use super::body::Whole;
use super::desk::Place;
use super::refusal::Refusal;
use crate::answer::{Answer, TOP};
use crate::model::milliseconds;

/// Longest name of a picture, characters; the rest is cut off.
const MAX_NAME: usize = 200;

/// What the query asks for.
struct Wish {
    k: usize,
    name: String,
}

/// One of several pictures.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Answer(Answer),
    Refusal {
        image: String,
        #[serde(flatten)]
        refusal: Refusal,
    },
}

pub(crate) async fn classify(State(app): State<App>, request: Request) -> Result<Response, Refusal> {
    let wish = wish(&app, request.uri())?;
    let (parts, body) = request.into_parts();
    let whole = app.room.read(&parts.headers, body, &app.bounds).await?;
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_multipart = kind.get(..19).is_some_and(|k| k.eq_ignore_ascii_case(b"multipart/form-data"));
    let answer = async {
        let place = app.desk.place().ok_or_else(|| {
            let (taken, limit) = app.desk.taken();
            let error = format!("{taken} requests wait or run, the limit is {limit}");
            Refusal::busy(StatusCode::TOO_MANY_REQUESTS, error)
        })?;
        if is_multipart {
            // The room stays taken until the last picture is answered.
            let Whole { bytes, room } = whole;
            let _room = room;
            let request = Request::from_parts(parts, Body::from(bytes));
            return several(&app, request, &wish, place).await;
        }
        let Wish { k, name } = wish;
        Ok(json(&one(&app, Picture { name, whole }, k, &place).await?))
    };
    tokio::time::timeout(app.bounds.answer_time, answer).await.unwrap_or_else(|_| {
        let error = format!("not answered within {} s", app.bounds.answer_time.as_secs_f32());
        Err(Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, error))
    })
}

fn json(value: &impl Serialize) -> Response {
    let json = serde_json::to_string(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// Reads the query.
fn wish(app: &App, uri: &Uri) -> Result<Wish, Refusal> {
    let bad = |error: String| Refusal::new(StatusCode::BAD_REQUEST, error);
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|e| bad(format!("query: {e}")))?;
    let mut wish = Wish { k: TOP, name: "-".to_owned() };
    for (key, value) in query.0 {
        match key.as_str() {
            "top" if !app.about.is_classifier => {
                return Err(bad("query: top, but this network gives features, not classes".to_owned()));
            }
            "top" => {
                let k = value.parse().ok().filter(|k| (1..=app.about.n_classes).contains(k));
                let expected = app.about.n_classes;
                wish.k = k.ok_or_else(|| {
                    bad(format!("query: top: found {value:?}, expected a number from 1 to {expected}"))
                })?;
            }
            "name" => wish.name = cut(&value),
            _ => return Err(bad(format!("query: found {key:?}, expected top or name"))),
        }
    }
    Ok(wish)
}

fn cut(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// The pictures of a form, one after the other: a request has one place.
async fn several(app: &App, request: Request, wish: &Wish, place: Place) -> Result<Response, Refusal> {
    let bad = |error: String| Refusal::new(StatusCode::BAD_REQUEST, format!("multipart body: {error}"));
    let mut form = Multipart::from_request(request, &()).await.map_err(|e| bad(e.body_text()))?;
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|e| bad(e.body_text()))? {
        let name = field.file_name().or(field.name()).map_or_else(|| wish.name.clone(), cut);
        if entries.len() == app.bounds.max_pictures.get() {
            let limit = app.bounds.max_pictures;
            let error = format!("multipart body: more pictures than the limit of {limit}");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error));
        }
        let bytes = field.bytes().await.map_err(|e| bad(e.body_text()))?;
        let picture = Picture { name: name.clone(), whole: Whole::from(bytes) };
        entries.push(match one(app, picture, wish.k, &place).await {
            Ok(answer) => Entry::Answer(answer),
            Err(refusal) => Entry::Refusal { image: name, refusal },
        });
    }
    let is_answer = |entry: &Entry| matches!(entry, Entry::Answer(_));
    match entries.first() {
        None => Err(bad("no part, expected a picture".to_owned())),
        Some(Entry::Refusal { image, refusal }) if !entries.iter().any(is_answer) => {
            Err(refusal.clone().at(image))
        }
        _ => Ok(json(&entries)),
    }
}

/// A picture of a request.
struct Picture {
    name: String,
    whole: Whole,
}

/// Decodes a picture and waits for the network's answer.
async fn one(app: &App, picture: Picture, k: usize, place: &Place) -> Result<Answer, Refusal> {
    let refused = |error: Error| Refusal::of_picture(&error);
    let Picture { name: image, whole } = picture;
    let (rule, place) = (app.rule.clone(), place.clone());
    let decoder = Arc::clone(&app.decoders).acquire_owned().await;
    let decoder = decoder.context("the program is stopping").map_err(refused)?;
    // All that is held moves along: it stays held while this runs, even when the client has gone.
    let decode = move || {
        let start = Instant::now();
        let input = rule.decode(&whole.bytes);
        drop((whole, decoder));
        (input, milliseconds(start), place)
    };
    let decoded = tokio::task::spawn_blocking(decode).await.context("decoding failed");
    let (input, decode_ms, place) = decoded.map_err(refused)?;
    app.metrics.decode.add(f64::from(decode_ms) / 1e3);
    let input = input.inspect_err(|_| defmt::warn!("picture refused")).map_err(refused)?;
    let (found, ms) = app.desk.request(input, k, place).await.map_err(refused)?;
    app.metrics.pictures.fetch_add(1, Ordering::Relaxed);
    let answer = Answer { image, found, ms, decode_ms };
    app.hub.answered(&answer);
    Ok(answer)
}
