//! Certificates and folders for the tests of commands.

use std::path::Path;

use jiff::Timestamp;

use crate::pki::{
    self, Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, NewFile,
    PrivateKey,
};

/// A CA that is valid for a year from now, its certificate and its key in PEM.
pub fn authority() -> (Authority, String, String) {
    let now = Timestamp::now();
    let made = pki::ca("CA", KeyAlgorithm::EcdsaP256, "1y".parse().unwrap(), now).unwrap();
    let (certificate, key) = (made.certificate, made.key.to_pem().to_string());
    (Authority::from_pem(&certificate, &key, now).unwrap(), certificate, key)
}

/// A client certificate of a planeID and its key in PEM.
pub fn client(authority: &Authority, plane_id: &str) -> (String, String) {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let issued = pki::client(plane_id, authority, key, "30d".parse().unwrap(), Timestamp::now()).unwrap();
    (issued.pair.certificate, issued.pair.key.to_pem().to_string())
}

/// Writes a CA and a client certificate of it with their keys into a folder.
pub fn write_pairs(folder: &Path, plane_id: &str) -> String {
    let (authority, ca, ca_key) = authority();
    let (leaf, key) = client(&authority, plane_id);
    let files = [
        NewFile { name: CA_PRIVATE_KEY, content: &ca_key, secret: true },
        NewFile { name: CA_CERTIFICATE, content: &ca, secret: false },
        NewFile { name: LEAF_PRIVATE_KEY, content: &key, secret: true },
        NewFile { name: LEAF_CERTIFICATE, content: &leaf, secret: false },
    ];
    Folder::new(folder).write(&files, false).unwrap();
    ca
}
