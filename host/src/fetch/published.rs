//! The published files: where each is, how to know it, which preprocessing it was trained with.
//!
//! | source | networks | digest |
//! |---|---|---|
//! | Keras | vgg16, vgg19, each also without the dense layers | MD5 of the whole file, as `keras.applications` checks it |
//! | torchvision | vgg11, vgg13, vgg16, vgg19, each also `_bn` | first 8 hex digits of the SHA-256, as `torch.hub` checks them |
//!
//! Neither digest withstands somebody who wants to forge a file: against that stands HTTPS. They tell a damaged or another
//! file for certain enough.
//!
//! ```
//! use vgg_edge_host::fetch::{Source, find};
//! let file = find("vgg16", None, true).unwrap();
//! assert_eq!((file.source, file.file), (Source::Keras, "vgg16_weights_tf_dim_ordering_tf_kernels.h5"));
//! ```

use std::fmt;

use super::digest::Digest;
use crate::preprocess::Preset;

/// Who published a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// `keras.applications`.
    Keras,
    /// `torchvision.models`.
    Torchvision,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keras => "keras",
            Self::Torchvision => "torchvision",
        })
    }
}

/// A published file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published<'a> {
    /// Name of the network on the command line.
    pub network: &'a str,
    /// Who published it.
    pub source: Source,
    /// Whether the dense layers are in it, and so the 1000 classes of ImageNet.
    pub top: bool,
    /// Name of the file.
    pub file: &'a str,
    /// Folder it is published in, with a `/` at the end.
    pub folder: &'a str,
    /// How to know the file.
    pub digest: Digest<'a>,
    /// No more bytes than this are taken from a server.
    pub max_bytes: u64,
}

impl Published<'_> {
    /// Where it is published.
    pub fn url(&self) -> String {
        format!("{}{}", self.folder, self.file)
    }

    /// The preprocessing it was trained with.
    pub fn preset(&self) -> Preset {
        match self.source {
            Source::Keras => Preset::KerasCaffe,
            Source::Torchvision => Preset::Torchvision,
        }
    }
}

/// Names of the networks, as the command line takes them.
pub const NETWORKS: [&str; 8] =
    ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"];

/// Every published file. Sizes are Keras' own, and torchvision's `_file_size` with some room, since it is rounded.
pub const PUBLISHED: [Published<'static>; 12] = [
    keras("vgg16", true, KERAS_VGG16, "64373286793e3c8b2b4e3219cbf3544b", 553_467_096),
    keras("vgg16", false, KERAS_VGG16, "6d6bbae143d832006294945121d1f1fc", 58_889_256),
    keras("vgg19", true, KERAS_VGG19, "cbe5617147190e668d6c5d5026f83318", 574_710_816),
    keras("vgg19", false, KERAS_VGG19, "253f8cb515780f3b799900260a226db6", 80_134_624),
    torchvision("vgg11", "vgg11-8a719046.pth", "8a719046", 507),
    torchvision("vgg11_bn", "vgg11_bn-6002323d.pth", "6002323d", 507),
    torchvision("vgg13", "vgg13-19584684.pth", "19584684", 508),
    torchvision("vgg13_bn", "vgg13_bn-abd245e5.pth", "abd245e5", 508),
    torchvision("vgg16", "vgg16-397923af.pth", "397923af", 528),
    torchvision("vgg16_bn", "vgg16_bn-6c64b313.pth", "6c64b313", 528),
    torchvision("vgg19", "vgg19-dcbb9e9d.pth", "dcbb9e9d", 549),
    torchvision("vgg19_bn", "vgg19_bn-c79401a0.pth", "c79401a0", 549),
];

const KERAS_VGG16: &str = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/";
const KERAS_VGG19: &str = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/";

const fn keras<'a>(
    network: &'a str,
    top: bool,
    folder: &'a str,
    md5: &'a str,
    max_bytes: u64,
) -> Published<'a> {
    let file = match (network.as_bytes(), top) {
        (b"vgg16", true) => "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        (b"vgg16", false) => "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        (_, true) => "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
        (_, false) => "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    };
    Published { network, source: Source::Keras, top, file, folder, digest: Digest::Md5(md5), max_bytes }
}

const fn torchvision<'a>(network: &'a str, file: &'a str, sha256: &'a str, mebibytes: u64) -> Published<'a> {
    Published {
        network,
        source: Source::Torchvision,
        top: true,
        file,
        folder: "https://download.pytorch.org/models/",
        digest: Digest::Sha256Start(sha256),
        max_bytes: (mebibytes + 1) << 20,
    }
}

/// What nobody published.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} is not published{by}, expected {expected}")]
pub struct Unpublished {
    what: String,
    by: String,
    expected: String,
}

/// The file of `network`, with its dense layers or without (`top`). Where both published it: Keras' for vgg16, the
/// network Keras' users know, else torchvision's.
///
/// # Errors
/// A network that nobody published, or not that source, or not without its dense layers.
pub fn find(network: &str, source: Option<Source>, top: bool) -> Result<Published<'static>, Unpublished> {
    let preferred = if network == "vgg16" { Source::Keras } else { Source::Torchvision };
    let mut found: Vec<_> = PUBLISHED
        .into_iter()
        .filter(|p| p.network == network && p.top == top && source.is_none_or(|s| s == p.source))
        .collect();
    found.sort_by_key(|p| p.source != preferred);
    found.first().copied().ok_or_else(|| {
        let mut expected: Vec<&str> = PUBLISHED
            .into_iter()
            .filter(|p| p.top == top && source.is_none_or(|s| s == p.source))
            .map(|p| p.network)
            .collect();
        expected.dedup();
        let without = if top { "" } else { " without its dense layers" };
        Unpublished {
            what: format!("{network}{without}"),
            by: source.map_or_else(String::new, |s| format!(" by {s}")),
            expected: match expected.as_slice() {
                [] => "the whole network".to_owned(),
                names => names.join(", "),
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_is_found_under_its_name() {
        for network in NETWORKS {
            let published = find(network, None, true).unwrap();
            assert_eq!(published.network, network);
            let source = if network == "vgg16" { Source::Keras } else { Source::Torchvision };
            assert_eq!(published.source, source, "{network}");
        }
        assert!(PUBLISHED.iter().all(|p| NETWORKS.contains(&p.network)));
    }

    #[test]
    fn urls_and_digests_are_whole() {
        for p in PUBLISHED {
            let digits = match p.digest {
                Digest::Md5(hex) => (hex, 32),
                // torch.hub takes the digits from the name of the file.
                Digest::Sha256Start(hex) => {
                    assert!(p.file.ends_with(&format!("-{hex}.pth")), "{}", p.file);
                    (hex, 8)
                }
            };
            assert!(digits.0.len() == digits.1 && digits.0.bytes().all(|b| b"0123456789abcdef".contains(&b)));
            assert!(p.file.starts_with(p.network) && p.url().starts_with("https://"), "{}", p.url());
            assert_eq!(p.top, !p.file.contains("notop"), "{}", p.file);
        }
        assert_eq!(
            find("vgg16", None, false).unwrap().url(),
            "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/\
             vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
        );
        let torch = find("vgg16", Some(Source::Torchvision), true).unwrap();
        assert_eq!(torch.url(), "https://download.pytorch.org/models/vgg16-397923af.pth");
    }

    #[test]
    fn what_nobody_published_is_an_error() {
        let message = |network, source, top| find(network, source, top).unwrap_err().to_string();
        assert_eq!(
            message("vgg11", Some(Source::Keras), true),
            "vgg11 is not published by keras, expected vgg16, vgg19"
        );
        assert_eq!(
            message("vgg16_bn", None, false),
            "vgg16_bn without its dense layers is not published, expected vgg16, vgg19"
        );
        assert_eq!(
            message("vgg16", Some(Source::Torchvision), false),
            "vgg16 without its dense layers is not published by torchvision, expected the whole network"
        );
    }
}
