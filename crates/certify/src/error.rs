//! Errors of certification and of certificate files.

use tarrl_attacks::Norm;

/// A certificate that could not be made, read or applied: the cause and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CertifyError {
    /// An op on the way from the input to the output that has no sound rule.
    #[error(
        "certify: no rule for the op `{0}`; certificates are made of convolutions, products with constants, \
         channel affines, ReLU, sums of branches, average pools, reshapes and a final l2 normalization"
    )]
    UnsupportedOp(String),
    /// An op with a rule, used in a way that the rule does not cover.
    #[error("certify: the op `{op}` {reason}")]
    UnsupportedForm {
        /// Its name.
        op: String,
        /// What is not covered, and what would be.
        reason: String,
    },
    /// The encoder returns something that does not depend on its input.
    #[error(
        "certify: the output of the encoder does not depend on its input, so that there is nothing to certify"
    )]
    Constant,
    /// A number that is not finite, in the weights, the input or the bounds.
    #[error(
        "certify: {0} is not finite; no claim is made about such numbers: train again, or use a smaller radius"
    )]
    NotFinite(String),
    /// A setting out of its range.
    #[error("certify: {field} is {value}; {range}")]
    Setting {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// A threat model that is no norm ball.
    #[error("certify: no rule for the norm {0}; certificates are made for linf, l2 and l1")]
    UnsupportedNorm(Norm),
    /// A file that cannot be read.
    #[error("certificates: cannot be read: {0}; check the path")]
    Unreadable(String),
    /// A file that declares more than is read.
    #[error(
        "certificates: {bytes} bytes are declared, but at most {most} are read; certify fewer samples at a time"
    )]
    TooLarge {
        /// Bytes declared.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// Bytes that are no stored certificates, or not whole.
    #[error("certificates: damaged: {0}; delete the file and certify again")]
    Damaged(String),
    /// A file of another program.
    #[error("certificates: not written by this program ({0}); choose a file that `certify` wrote")]
    Foreign(String),
    /// Written in another version of the format.
    #[error("certificates: format version {found}, but this program reads version {known}; certify again")]
    Version {
        /// The version found.
        found: u64,
        /// The version known.
        known: u64,
    },
    /// The encoder is not the one that was certified.
    #[error(
        "certificates: made for the encoder {certified}, but this one is {given}: it has changed since; certify again"
    )]
    OtherEncoder {
        /// Hash of the certified encoder.
        certified: String,
        /// Hash of the encoder at hand.
        given: String,
    },
    /// The samples are not those that were certified.
    #[error("certificates: made for the samples {certified}, but these are {given}; certify these too")]
    OtherSamples {
        /// Hash of the certified samples.
        certified: String,
        /// Hash of the samples at hand.
        given: String,
    },
    /// A head on another number of features.
    #[error("certificates: of {features} features, but the head takes {head}; use a head of this encoder")]
    Width {
        /// Features of the certificates.
        features: usize,
        /// Features of the head.
        head: usize,
    },
    /// Another number of labels than samples.
    #[error("certificates: of {samples} samples, but there are {labels} labels; give one for each")]
    Labels {
        /// Samples.
        samples: usize,
        /// Labels.
        labels: usize,
    },
}
