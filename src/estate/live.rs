//! A cluster that is asked as things are read.

use serde_json::Value;

use super::objects::ObjectRef;
use super::source::Source;
use super::unavailable::Unavailable;
use crate::cluster::Cluster;

impl Source for Cluster {
    async fn get(&self, what: &ObjectRef) -> Result<Value, Unavailable> {
        let missing = || Unavailable::missing(format!("{} does not exist", what.title()));
        if what.name.is_empty() {
            return Err(missing());
        }
        let answer = self.fetch(&what.path()).await.map_err(|error| Unavailable::from(&error));
        answer.map_err(|why| if why.is_missing() { missing() } else { why })
    }
}
