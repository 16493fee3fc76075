//! The tags of a repository.

use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{self, HeaderMap};

use super::client::{Ask, Client};
use super::settings::Purpose;
use super::{Error, Settings};
use crate::reference::Reference;

/// How many pages of tags are read: a registry may have no end of them.
const PAGES: usize = 1000;

/// All tags of a repository, as the registry orders them (distribution specification, "Content
/// Discovery").
pub fn tags(reference: &Reference, settings: &Settings) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        tags: Option<Vec<String>>,
    }
    // Mirrors need not have them all.
    let place = settings.places(reference, Purpose::Pull)?.pop().expect("every image has a place");
    let scope = format!("repository:{}:pull", place.repository);
    let client = Client::connect(settings, place)?;
    let what = format!("list the tags of {}", reference.familiar_name());
    let mut url = client.url("tags/list");
    let mut tags = Vec::new();
    for _ in 0..PAGES {
        let ask = Ask { what: &what, method: Method::GET, url: &url, headers: &[], scope: &scope };
        let (headers, bytes) = client.read(&ask)?;
        let next = next_page(&headers);
        let page: Page = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Answer { what: what.clone(), why: error.to_string() })?;
        tags.extend(page.tags.unwrap_or_default());
        match next.and_then(|next| client.whole(&next)) {
            Some(next) => url = next,
            None => break,
        }
    }
    Ok(tags)
}

/// Where the next page is (RFC 8288): `</v2/app/tags/list?last=b&n=2>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::LINK)?.to_str().ok()?;
    let (url, rest) = text.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_one_that_is_called_so() {
        let check = |text: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, text.parse().expect("value"));
            assert_eq!(next_page(&headers).as_deref(), expected, "{text}");
        };
        check(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2"));
        check(r#"</v2/a>; rel="prev""#, None);
        check("next", None);
    }
}
