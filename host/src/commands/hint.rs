//! What a user can do about an error. Library errors say what is wrong; remedies are named here only.

use super::deploy::FleetError;
use crate::fetch::{FetchError, Problem};
use crate::import::{self, ImportError, PickleProblem, TorchProblem};
use crate::logs::LogsError;
use crate::preprocess::PreprocessError;
use crate::sign::SignError;
use vgg_edge_blob::{BlobError, WriteError};

/// A remedy for `error`, if one is known.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(PreprocessError::Unknown { .. }) = cause.downcast_ref() {
            return Some(
                "pass the rule the network was trained with: `--preprocess keras-caffe` for Keras' VGG16, \
                 `--preprocess torchvision` for torchvision's"
                    .to_owned(),
            );
        }
        if let Some(crate::gate::GateError { .. }) = cause.downcast_ref() {
            return Some(
                "allow more with `--max-drop`, calibrate on more pictures like those the network will see, or use \
                 `--scheme f16`"
                    .to_owned(),
            );
        }
        if let Some(FleetError { hint, .. }) = cause.downcast_ref() {
            return Some((*hint).to_owned());
        }
        if let Some(error) = cause.downcast_ref::<SignError>() {
            return sign_hint(error).map(str::to_owned);
        }
        if let Some(error) = cause.downcast_ref::<FetchError>() {
            return fetch_hint(&error.problem);
        }
        if let Some(ImportError { problem, .. }) = cause.downcast_ref()
            && let Some(hint) = import_hint(problem)
        {
            return Some(hint.to_owned());
        }
        if let Some(error) = cause.downcast_ref::<BlobError>() {
            return Some(match error {
                BlobError::UnsupportedVersion { .. } => {
                    "re-create the blob with `cargo xtask quantize`, or use the program version that wrote it"
                        .to_owned()
                }
                BlobError::BadMagic { .. } => "expected a file that `cargo xtask quantize` wrote".to_owned(),
                _ => "the copy may be incomplete or damaged; create or copy it again".to_owned(),
            });
        }
        if let Some(WriteError::Overflow { .. }) = cause.downcast_ref() {
            return Some("this layer cannot be int8; use `--scheme f16`".to_owned());
        }
        if let Some(error) = cause.downcast_ref() {
            return Some(logs_hint(error).to_owned());
        }
        None
    })
}

fn logs_hint(error: &LogsError) -> &'static str {
    match error {
        LogsError::NoMessages { .. } => "pass the unstripped program: `--elf target/board/classify.debug`",
        LogsError::WrongBuild { .. } => {
            "pass the unstripped program of that build with `--elf`, or build and deploy the program again"
        }
        LogsError::UnknownBuild { .. } => {
            "if this is the program that wrote it, decode it with `--any-build`; other messages would be wrong"
        }
        LogsError::Service { .. } => "name the log with `--path`, or the service with `--unit`",
    }
}

fn import_hint(problem: &import::Problem) -> Option<&'static str> {
    match problem {
        import::Problem::Torch(problem) => torch_hint(problem),
        import::Problem::InputUnknown | import::Problem::InputUnknownFeatures => {
            Some("say the size of the pictures: `--input 224x224`, or `--input 224x224x1` for gray ones")
        }
        import::Problem::ArchUnknown { .. } => Some("name the architecture: `--arch vgg16`"),
        _ => None,
    }
}

fn sign_hint(error: &SignError) -> Option<&'static str> {
    match error {
        SignError::Unsigned { .. } => Some("sign it: `cargo xtask sign MODEL.vgg --key FILE.key`"),
        SignError::OtherFile { .. } => Some("the model changed after it was signed; sign it again"),
        SignError::Mode { .. } => Some("make it yours alone with `chmod 600`"),
        SignError::KeyExists { .. } => Some("give the new key another name"),
        _ => None,
    }
}

fn fetch_hint(problem: &Problem) -> Option<String> {
    let text = match problem {
        Problem::Connect { .. } | Problem::ConnectTimeout { .. } => {
            "check the connection and, behind a proxy, HTTPS_PROXY; or name a mirror with `--url`"
        }
        Problem::Stalled { .. } | Problem::Broken { .. } => {
            "run the command again: it goes on where this one stopped, if the server can"
        }
        Problem::Status { .. } | Problem::Protocol { .. } | Problem::TooLong { .. } => {
            "the address may have changed, or a proxy answers for it; name a mirror with `--url`"
        }
        Problem::Digest { .. } => {
            "another file, or damaged on its way; nothing of it was kept: run the command again, or name a mirror with \
             `--url`"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn torch_hint(problem: &TorchProblem) -> Option<&'static str> {
    match problem {
        TorchProblem::Pickle(PickleProblem::Global { .. } | PickleProblem::Object { .. }) => Some(
            "classes and functions in a file are never run; in Python save the weights alone: \
             `torch.save(model.state_dict(), \"net.pth\")`",
        ),
        TorchProblem::Container { .. } => Some(
            "in Python save its weights alone: `torch.save(torch.jit.load(\"net.pt\").state_dict(), \"net.pth\")`",
        ),
        _ => None,
    }
}
