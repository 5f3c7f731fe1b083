use std::path::Path;

use super::Config;

/// Placeholder.
#[derive(Debug, thiserror::Error)]
#[error("config")]
pub struct ConfigError;

/// Placeholder.
///
/// # Errors
/// Placeholder.
pub fn load(_path: &Path) -> Result<Config, ConfigError> {
    Err(ConfigError)
}

/// Placeholder.
///
/// # Errors
/// Placeholder.
pub fn parse(_text: &str, _path: &Path) -> Result<Config, ConfigError> {
    Err(ConfigError)
}
