//! Which digest an image has on a node, as its kubelet last said.
//!
//! A fast program has ended before the kubelet's first status of its Pod. What the node said of the Pod before,
//! with the same image, holds for this one as well: a node resolves an image that it has only once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::observe::PodView;

/// Most that is remembered; beyond that everything is learned anew.
const MOST: usize = 10_000;

/// Digests by node and image.
#[derive(Debug, Default)]
pub struct Images(Mutex<HashMap<(String, String), String>>);

impl Images {
    /// Remembers what a Pod's status says.
    pub fn learn(&self, view: &PodView) {
        if let (Some(node), Some(image), Some(digest)) = (&view.node, &view.image, &view.image_id) {
            // A panic elsewhere can't have left a map half written.
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert((node.clone(), image.clone()), digest.clone());
        }
    }

    /// The digest of a Pod's image: its own status's, or the last that its node said.
    #[must_use]
    pub fn digest(&self, view: &PodView) -> Option<String> {
        let known = || {
            let key = (view.node.clone()?, view.image.clone()?);
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&key)
                .cloned()
        };
        view.image_id.clone().or_else(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, image_id: Option<&str>) -> PodView {
        PodView {
            node: Some(node.to_owned()),
            image: Some("executor:1".to_owned()),
            image_id: image_id.map(str::to_owned),
            ..PodView::default()
        }
    }

    #[test]
    fn a_node_s_word_on_an_image_holds_for_its_next_pod_and_for_no_other_node() {
        let images = Images::default();
        images.learn(&pod("a", Some("executor@sha256:1")));
        assert_eq!(
            images.digest(&pod("a", None)).as_deref(),
            Some("executor@sha256:1")
        );
        assert_eq!(images.digest(&pod("b", None)), None);
        assert_eq!(
            images.digest(&pod("a", Some("executor@sha256:2"))).as_deref(),
            Some("executor@sha256:2")
        );
    }
}
