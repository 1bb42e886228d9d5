//! vgg-edge on the workstation.
