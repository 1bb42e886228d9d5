//! Signatures as `classify` checks them: the right one, and every wrong one by its name. Also `info --board`.
//!
//! A signature is checked before the model is looked at, so any bytes do for a model here.

use std::fs;
use std::path::Path;
use std::process::Command;

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use vgg_edge_blob::signature::{PublicKey, Signature, message};

/// Exit code, and standard error without a hint.
fn classify(dir: &Path, words: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
    let ran = command.args(words.split_whitespace()).current_dir(dir).output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    (ran.status.code(), stderr.split("\n\nhint:").next().unwrap_or_default().trim_end().to_owned())
}

fn key(seed: u8) -> (SigningKey, PublicKey) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = PublicKey(key.verifying_key().to_bytes());
    (key, public)
}

fn signed(bytes: &[u8], seed: u8) -> Signature {
    let (key, public) = key(seed);
    let sha256: [u8; 32] = Sha256::digest(bytes).into();
    Signature { key: public, sha256, ed25519: key.sign(&message(&sha256)).to_bytes() }
}

/// `m.vgg`, its signature by key 1, and the public keys `1.pub` and `2.pub`.
fn folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
    write("m.vgg", "these bytes".to_owned());
    write("m.vgg.sig", signed(b"these bytes", 1).to_string());
    write("1.pub", key(1).1.to_string());
    write("2.pub", key(2).1.to_string());
    dir
}

#[test]
fn a_model_that_is_signed_comes_to_its_own_checks() {
    let dir = folder();
    let expected = "error: cannot load m.vgg: not a vgg-edge model: it starts with bytes [74, 68, 65, 73], expected [56, 47, 47, 45]";
    for (command, is_there) in [
        ("verify", true),
        ("run", true),
        ("bench", true),
        ("serve", cfg!(feature = "serve")),
        ("camera", cfg!(feature = "camera")),
    ] {
        if !is_there {
            continue;
        }
        let words =
            format!("{command} m.vgg --public-key 1.pub{}", if command == "run" { " x.jpg" } else { "" });
        assert_eq!(classify(dir.path(), &words), (Some(1), expected.to_owned()), "{words}");
        let (code, error) = classify(dir.path(), &words.replace("1.pub", "2.pub"));
        let wrong = format!(
            "error: signature m.vgg.sig: made with key {}, expected {}",
            key(1).1.short(),
            key(2).1.short()
        );
        assert_eq!((code, error), (Some(1), wrong), "{words}");
    }
}

#[test]
fn every_wrong_signature_is_named() {
    let dir = folder();
    let fails = |expected: &str| {
        let (code, error) = classify(dir.path(), "verify m.vgg --public-key 1.pub");
        assert_eq!((code, error), (Some(1), format!("error: {expected}")));
    };
    let sig = dir.path().join("m.vgg.sig");
    let good = fs::read_to_string(&sig).unwrap();

    fs::write(&sig, good.replace("sha256 ", "sha512 ")).unwrap();
    fails("signature m.vgg.sig: line 3 does not start with `sha256 `");

    // The digest of these bytes, the signature of others.
    let mut forged = signed(b"other bytes", 1);
    forged.sha256 = Sha256::digest(b"these bytes").into();
    fs::write(&sig, forged.to_string()).unwrap();
    fails(&format!("signature m.vgg.sig: key {} did not make it for these bytes", key(1).1.short()));

    // Another's signature that says it is key 1's.
    let mut forged = signed(b"these bytes", 2);
    forged.key = key(1).1;
    fs::write(&sig, forged.to_string()).unwrap();
    fails(&format!("signature m.vgg.sig: key {} did not make it for these bytes", key(1).1.short()));

    fs::write(&sig, &good).unwrap();
    fs::write(dir.path().join("m.vgg"), "those bytes").unwrap();
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    fails(&format!(
        "signature m.vgg.sig: made for a file of SHA-256 {}, m.vgg has {}",
        hex(b"these bytes"),
        hex(b"those bytes")
    ));

    fs::remove_file(&sig).unwrap();
    fails("m.vgg is not signed: there is no m.vgg.sig");

    fs::write(dir.path().join("1.pub"), "ssh-ed25519 AAAA\n").unwrap();
    fails("public key 1.pub: line 1 is not `vgg-edge public key 1`");
    // The neutral element: any signature would hold for it.
    let mut weak = [0; 32];
    weak[0] = 1;
    fs::write(dir.path().join("1.pub"), PublicKey(weak).to_string()).unwrap();
    fails("public key 1.pub: not a point that Ed25519 uses");
    fs::remove_file(dir.path().join("1.pub")).unwrap();
    fails("cannot read 1.pub: No such file or directory (os error 2)");
}

#[test]
fn the_board_says_what_it_can_run() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
    let ran = command.args(["info", "--board", "--json"]).output().unwrap();
    let about: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(about["arch"], std::env::consts::ARCH);
    let kernels: Vec<&str> =
        about["kernels"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
    assert_eq!(kernels.last(), Some(&"generic-s8-scalar"));
    assert!(about["cores"].as_u64().unwrap() >= 1 && about["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(about["model"].is_null());
    let dir = folder();
    let (code, error) = classify(dir.path(), "info --board m.vgg");
    assert_eq!((code, error.starts_with("error: cannot load m.vgg: ")), (Some(1), true), "{error}");
    let (code, error) = classify(dir.path(), "info");
    assert_eq!(code, Some(2), "{error}");
}
