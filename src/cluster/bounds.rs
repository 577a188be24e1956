//! Bounds on what a server sends, so that none can fill the memory: on one answer, one line of a stream, one list with all
//! its pages, and on all answers that arrive at once.
//!
//! The bounds are on bytes, and on values of JSON, which take up to a hundred times their text in memory.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Sleep;
use tower::{BoxError, Service};

/// Largest answer: etcd holds objects of 1.5 MiB, and a page has 500 planes of some KiB each.
const LARGEST_ANSWER: usize = 16 << 20;
/// Largest line of a stream: one event of a watch, or one line of a log.
const LARGEST_LINE: usize = 8 << 20;
/// Largest sum of all lists, each with all its pages: 20,000 planes of 2 KiB each.
const LARGEST_LISTS: usize = 44 << 20;
/// Largest sum of all answers that arrive at once: planes of all kinds are listed at once.
const LARGEST_AT_ONCE: usize = 48 << 20;
/// Most pages of one list: no cluster has a hundred thousand planes.
const MOST_PAGES: usize = 200;
/// What a value of JSON counts for at least: those of a plane take 19 bytes of text on average.
const VALUE: usize = 16;

/// What was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error("more than {} MiB, or {} values, in one answer", LARGEST_ANSWER >> 20, LARGEST_ANSWER / VALUE)]
    Answer,
    #[error("more than {} MiB, or {} values, in one event or line", LARGEST_LINE >> 20, LARGEST_LINE / VALUE)]
    Line,
    #[error("more than {} MiB, or {} values, in its lists", LARGEST_LISTS >> 20, LARGEST_LISTS / VALUE)]
    Lists,
    #[error("more than {} MiB, or {} values, at once", LARGEST_AT_ONCE >> 20, LARGEST_AT_ONCE / VALUE)]
    AtOnce,
    #[error("a list of more than {MOST_PAGES} pages")]
    Pages,
}

/// The server's answer did not begin, or did not end, in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub(super) struct NoAnswer(pub Duration);

/// What a text of JSON counts for: its bytes, or its values where these are many.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    bytes: usize,
    values: usize,
}

impl Weight {
    fn add(&mut self, text: &[u8]) {
        self.bytes += text.len();
        self.values += text.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count();
    }

    fn sum(self) -> usize {
        self.bytes.max(self.values * VALUE)
    }
}

/// What one server has sent by now.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Of each list, by its path: the pages and what they count for.
    lists: BTreeMap<String, (usize, usize)>,
    /// What the answers that are being read count for.
    at_once: usize,
}

impl Ledger {
    /// Takes down that a page of a list is asked for; the first one begins the list anew.
    fn page(&mut self, path: &str, is_first: bool) -> Result<(), Excess> {
        let (pages, weight) = self.lists.entry(path.to_owned()).or_default();
        if is_first {
            (*pages, *weight) = (0, 0);
        }
        *pages += 1;
        if *pages > MOST_PAGES { Err(Excess::Pages) } else { Ok(()) }
    }

    /// Takes down that an answer, which may be a page of a list, has become larger.
    fn grow(&mut self, list: Option<&String>, by: usize) -> Result<(), Excess> {
        self.at_once += by;
        if let Some((_, weight)) = list.and_then(|path| self.lists.get_mut(path)) {
            *weight += by;
            if self.lists.values().map(|(_, weight)| weight).sum::<usize>() > LARGEST_LISTS {
                return Err(Excess::Lists);
            }
        }
        if self.at_once > LARGEST_AT_ONCE { Err(Excess::AtOnce) } else { Ok(()) }
    }
}

/// How an answer is read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    /// As a whole; perhaps as a page of the list of a path.
    Whole { list: Option<String> },
    /// Line by line, as long as the server goes on.
    Lines,
}

impl Reading {
    fn of(uri: &Uri, ledger: &Mutex<Ledger>) -> Result<Self, Excess> {
        let has = |name: &str| {
            uri.query().is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some(name)))
        };
        if has("watch") || uri.path().ends_with("/log") {
            return Ok(Self::Lines);
        }
        let list = has("limit").then(|| uri.path().to_owned());
        if let (Some(path), Ok(mut ledger)) = (&list, ledger.lock()) {
            ledger.page(path, !has("continue"))?;
        }
        Ok(Self::Whole { list })
    }
}

/// A body that ends with an error where it exceeds its bounds.
pub(super) struct Bounded<B> {
    body: Pin<Box<B>>,
    reading: Reading,
    /// What the answer, or its last line, counts for by now.
    weight: Weight,
    /// When it must have ended, and how long that is from its beginning.
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
    ledger: Arc<Mutex<Ledger>>,
}

impl<B> Bounded<B> {
    fn new(body: B, reading: Reading, limit: Option<Duration>, ledger: Arc<Mutex<Ledger>>) -> Self {
        let limit = limit.filter(|_| reading != Reading::Lines);
        let deadline = limit.map(|limit| (Box::pin(tokio::time::sleep(limit)), limit));
        Self { body: Box::pin(body), reading, weight: Weight::default(), deadline, ledger }
    }

    fn take(&mut self, text: &[u8]) -> Result<(), Excess> {
        let before = self.weight.sum();
        match &self.reading {
            Reading::Lines => {
                let mut lines = text.rsplitn(2, |byte| *byte == b'\n');
                let last = lines.next().unwrap_or_default();
                if let Some(ended) = lines.next() {
                    self.weight.add(ended);
                    let ended = self.weight.sum();
                    self.weight = Weight::default();
                    // Lines that came with it are at most one read of the connection.
                    if ended > LARGEST_LINE + text.len() * VALUE {
                        return Err(Excess::Line);
                    }
                }
                self.weight.add(last);
                if self.weight.sum() > LARGEST_LINE { Err(Excess::Line) } else { Ok(()) }
            }
            Reading::Whole { list } => {
                self.weight.add(text);
                let sum = self.weight.sum();
                if sum > LARGEST_ANSWER {
                    return Err(Excess::Answer);
                }
                self.ledger.lock().map_or(Ok(()), |mut ledger| ledger.grow(list.as_ref(), sum - before))
            }
        }
    }
}

impl<B> Drop for Bounded<B> {
    fn drop(&mut self) {
        if let (Reading::Whole { .. }, Ok(mut ledger)) = (&self.reading, self.ledger.lock()) {
            ledger.at_once = ledger.at_once.saturating_sub(self.weight.sum());
        }
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some((deadline, limit)) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(NoAnswer(*limit).into())));
        }
        let frame = match ready!(self.body.as_mut().poll_frame(context)) {
            Some(Ok(frame)) => match frame.data_ref().map(|text| self.take(text)) {
                Some(Err(excess)) => Err(excess.into()),
                _ => Ok(frame),
            },
            Some(Err(error)) => Err(error.into()),
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What a server announces is not believed.
        SizeHint::default()
    }
}

/// Gives every answer its bounds.
#[derive(Clone)]
pub(super) struct Bounds<S> {
    pub inner: S,
    pub ledger: Arc<Mutex<Ledger>>,
    /// How long an answer may take that is read as a whole.
    pub limit: Option<Duration>,
}

impl<S, A, B> Service<Request<A>> for Bounds<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<Bounded<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let reading = match Reading::of(request.uri(), &self.ledger) {
            Ok(reading) => reading,
            Err(excess) => return Box::pin(std::future::ready(Err(excess.into()))),
        };
        let (answer, limit, ledger) = (self.inner.call(request), self.limit, self.ledger.clone());
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            Ok(answer.map(|body| Bounded::new(body, reading, limit, ledger)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    fn reading(uri: &str, ledger: &Mutex<Ledger>) -> Result<Reading, Excess> {
        Reading::of(&uri.parse().unwrap(), ledger)
    }

    /// Reads the same text so many times as one body.
    fn read(uri: &str, ledger: &Arc<Mutex<Ledger>>, text: &[u8], times: usize) -> Result<(), Excess> {
        let reading = reading(uri, ledger)?;
        let mut body = Bounded::new(Full::new(Bytes::new()), reading, None, ledger.clone());
        (0..times).try_for_each(|_| body.take(text))
    }

    #[test]
    fn an_answer_is_bounded_by_its_bytes_and_by_its_values() {
        let ledger = Arc::default();
        let uri = "/api/v1/namespaces/a/secrets/b";
        let (text, values) = (vec![b'a'; 1 << 20], b"{},".repeat(1 << 10));
        assert_eq!(read(uri, &ledger, &text, LARGEST_ANSWER >> 20), Ok(()));
        assert_eq!(read(uri, &ledger, &text, (LARGEST_ANSWER >> 20) + 1), Err(Excess::Answer));
        assert_eq!(read(uri, &ledger, &values, LARGEST_ANSWER / VALUE / (2 << 10)), Ok(()));
        assert_eq!(read(uri, &ledger, &values, LARGEST_ANSWER / VALUE / (2 << 10) + 1), Err(Excess::Answer));
        assert_eq!(ledger.lock().unwrap().at_once, 0, "what was read is forgotten");
    }

    #[test]
    fn a_stream_is_bounded_by_its_lines() {
        let ledger = Arc::default();
        let (line, endless) = ([vec![b'a'; 1 << 20], vec![b'\n']].concat(), vec![b'a'; 1 << 20]);
        for uri in ["/apis/g/v1/planes?&watch=true&timeoutSeconds=10", "/api/v1/namespaces/a/pods/b/log?&follow=true"] {
            assert_eq!(read(uri, &ledger, &line, 100), Ok(()), "a stream may go on for long");
            assert_eq!(read(uri, &ledger, &endless, (LARGEST_LINE >> 20) + 1), Err(Excess::Line));
            assert_eq!(read(uri, &ledger, &b"[".repeat(1 << 10), LARGEST_LINE >> 10), Err(Excess::Line));
        }
        // A long line counts also where it ends.
        let mut body = Bounded::new(Full::new(Bytes::new()), Reading::Lines, None, ledger);
        assert_eq!(body.take(&vec![b'a'; LARGEST_LINE]), Ok(()));
        assert_eq!(body.take(&[vec![b','; 1 << 20], vec![b'\n']].concat()), Ok(()));
        assert_eq!(body.weight.sum(), 0);
    }

    #[test]
    fn lists_are_bounded_by_their_pages_and_by_all_of_them() {
        let ledger = Arc::default();
        let page = vec![b'a'; 1 << 20];
        let first = "/apis/g/v1/a?&limit=500";
        let next = "/apis/g/v1/a?&limit=500&continue=x";
        assert_eq!(read(first, &ledger, &page, 4), Ok(()));
        let pages = LARGEST_LISTS / (4 << 20) - 1;
        assert!((0..pages).all(|_| read(next, &ledger, &page, 4).is_ok()));
        assert_eq!(read(next, &ledger, &page, 1), Err(Excess::Lists));
        assert_eq!(read("/apis/g/v1/b?&limit=500", &ledger, &page, 1), Err(Excess::Lists), "the first is still held");
        assert_eq!(read(first, &ledger, &page, 4), Ok(()), "a list that begins anew is another one");
        for _ in 1..MOST_PAGES {
            assert!(reading(next, &ledger).is_ok());
        }
        assert_eq!(reading(next, &ledger), Err(Excess::Pages));
        assert!(reading(first, &ledger).is_ok());
    }

    #[test]
    fn answers_that_arrive_at_once_are_bounded_together() {
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let body = || Bounded::new(Full::new(Bytes::new()), reading("/a", &ledger).unwrap(), None, ledger.clone());
        let text = vec![b'a'; 12 << 20];
        let mut bodies: Vec<_> = (0..4).map(|_| body()).collect();
        assert!(bodies.iter_mut().all(|body| body.take(&text).is_ok()));
        assert_eq!(body().take(&text), Err(Excess::AtOnce));
        bodies.pop();
        assert_eq!(body().take(&text), Ok(()));
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_ends() {
        let (_sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let slow = http_body_util::StreamBody::new(futures_util::stream::once(async {
            let _ = receiver.await;
            Ok::<_, BoxError>(Frame::data(Bytes::new()))
        }));
        let reading = reading("/a", &Mutex::default()).unwrap();
        let body = Bounded::new(slow, reading, Some(Duration::from_millis(10)), Arc::default());
        let error = body.collect().await.unwrap_err();
        assert!(error.downcast_ref::<NoAnswer>().is_some(), "{error}");
    }
}
