//! The authorizer of the next configuration.

use std::sync::Arc;

use super::Authorizer;
use super::cache::VerificationCache;
use crate::config::Config;
use crate::directory::{Directory, DirectoryError};

impl Authorizer {
    /// The configuration that it decides by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// One that decides by another configuration, with the same authority. What is verified
    /// already counts there as well, unless it was verified within other limits.
    ///
    /// # Errors
    ///
    /// When the sources of the directory cannot be opened.
    pub fn renewed(&self, config: Arc<Config>) -> Result<Self, DirectoryError> {
        let same =
            (config.token_limits, config.cache) == (self.config.token_limits, self.config.cache);
        let cache = match same {
            true => Arc::clone(&self.cache),
            false => Arc::new(VerificationCache::new(&config.cache)),
        };
        Ok(Self {
            directory: Arc::new(Directory::open(&config.directory, &self.metrics)?),
            config,
            authority: Arc::clone(&self.authority),
            location: self.location.clone(),
            cache,
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
        })
    }
}
