//! Error messages with their causes.

/// An error and its causes, outermost first, without a cause that a message before it has quoted already.
///
/// ```
/// use anyhow::Context;
///
/// let refused = || Err::<(), _>(std::io::Error::other("refused"));
/// let error = refused().context("cannot write a.toml").unwrap_err();
/// assert_eq!(tarrl_jobs::message::message(&error), "cannot write a.toml: refused");
/// let error = refused().context("cannot write a.toml: refused; choose another folder").unwrap_err();
/// assert_eq!(tarrl_jobs::message::message(&error), "cannot write a.toml: refused; choose another folder");
/// ```
pub fn message(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += ": ";
            text += &cause;
        }
    }
    text
}
