//! The vgg-edge model file.
