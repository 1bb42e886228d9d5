//! The server's parts in memory: turns at the desk, and what followers of the hub get.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

#[path = "../src/serve/desk.rs"]
#[allow(dead_code, unreachable_pub)]
mod desk;
#[path = "../src/serve/hub.rs"]
#[allow(dead_code, unreachable_pub)]
mod hub;
#[path = "../src/observation.rs"]
#[allow(dead_code, unreachable_pub)]
mod observation;

/// Stands in for the network's answer.
mod answer {
    use super::Serialize;

    #[derive(Clone, Debug, Serialize)]
    pub(crate) struct Found {
        pub(crate) who: usize,
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Answer;
}

use answer::Found;
use desk::{Desk, Next};
use hub::Hub;
use observation::Observation;
use tokio::sync::broadcast::error::TryRecvError;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whose picture it was: the first byte of the input.
fn next(desk: &Desk) -> Option<usize> {
    match desk.next(Duration::ZERO) {
        Next::Job(job) => {
            let who = job.input[0] as usize;
            job.answer(Ok((Found { who }, 1.0)));
            Some(who)
        }
        Next::Idle | Next::Closed => None,
    }
}

#[test]
fn requests_and_frames_take_turns() {
    let (desk, runtime) = (Arc::new(Desk::new(10)), runtime());
    let local = tokio::task::LocalSet::new();
    let request = |who: u8| {
        let desk = Arc::clone(&desk);
        let place = desk.place().unwrap();
        local.spawn_local(async move { desk.request(vec![who], 5, place).await.unwrap().0.who })
    };
    let requests: Vec<_> = (1..=6).map(request).collect();
    local.block_on(&runtime, async { tokio::task::yield_now().await });
    // A camera that always has another frame, and six requests.
    let camera = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || (0..20).map_while(|_| desk.frame(vec![100]).ok()).count())
    };
    let mut order = Vec::new();
    for _ in 0..12 {
        // The camera's next frame is there before the next look.
        let start = Instant::now();
        while !desk.waiting().1 {
            assert!(start.elapsed() < Duration::from_secs(60), "no frame behind {order:?}");
            thread::sleep(Duration::from_millis(1));
        }
        order.push(next(&desk).unwrap());
    }
    // The camera gets every second turn, the requests the others, in their order.
    assert_eq!(order, [100, 1, 100, 2, 100, 3, 100, 4, 100, 5, 100, 6]);
    let answers = local.block_on(&runtime, futures_util::future::join_all(requests));
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    desk.close();
    assert_eq!(camera.join().unwrap(), 6);
}

#[test]
fn places_are_counted_until_the_answer_and_closed_desks_answer_nobody() {
    let (desk, runtime) = (Arc::new(Desk::new(2)), runtime());
    let (first, second) = (desk.place().unwrap(), desk.place().unwrap());
    assert!(desk.place().is_none());
    assert_eq!(desk.taken(), (2, 2));
    drop(second);
    assert_eq!(desk.taken(), (1, 2));
    // A request that is given up is not run, and its place comes back.
    runtime.block_on(async {
        let asked = desk.request(vec![1], 5, first);
        let given_up = tokio::time::timeout(Duration::from_millis(1), asked).await;
        assert!(given_up.is_err());
    });
    assert_eq!(next(&desk), None);
    assert_eq!((desk.taken(), desk.busy_for()), ((0, 2), None));
    desk.close();
    let place = desk.place().unwrap();
    let refused = runtime.block_on(desk.request(vec![1], 5, place)).unwrap_err();
    assert_eq!(refused.to_string(), "the program is stopping");
    assert!(desk.frame(vec![1]).is_err());
    assert!(matches!(desk.next(Duration::from_secs(60)), Next::Closed));
}

fn observed(sequence: u64) -> Observation {
    Observation {
        sequence,
        unix_ms: 1,
        source: "x".to_owned(),
        width: 1,
        height: 1,
        found: Found { who: 0 },
        ms: 1.0,
        decode_ms: 1.0,
        latency_ms: 1.0,
        fps: 2.0,
        dropped: 3,
        jpeg: Some(Arc::from(&[sequence as u8][..])),
    }
}

#[test]
fn followers_get_what_they_missed_and_lose_what_they_are_too_slow_for() {
    let hub = Hub::new();
    assert!(hub.frame().is_none() && hub.pace().is_none());
    assert_eq!(hub.follow(Some(3)).0.len(), 0);
    let (_, mut slow) = hub.follow(None);
    (1..=100).for_each(|i| hub.publish(observed(i)));
    let missed = |after| hub.follow(after).0.iter().map(|o| o.sequence).collect::<Vec<_>>();
    assert_eq!(missed(Some(98)), [99, 100]);
    assert_eq!((missed(None), missed(Some(100))), (Vec::new(), Vec::new()));
    // Numbers of another run of the program.
    assert_eq!(missed(Some(1000)), [0; 0]);
    assert_eq!(missed(Some(0)), (37..=100).collect::<Vec<_>>());
    let Err(TryRecvError::Lagged(lost)) = slow.try_recv() else { panic!("nothing was lost") };
    let mut got = Vec::new();
    while let Ok(observation) = slow.try_recv() {
        // Frames are not kept with them.
        assert!(observation.jpeg.is_none());
        got.push(observation.sequence);
    }
    assert_eq!(got, (lost + 1..=100).collect::<Vec<_>>());
    assert!(got.len() >= 64);
    let frame = hub.frame().unwrap();
    assert_eq!((frame.sequence, &frame.jpeg[..]), (100, &[100][..]));
    let pace = hub.pace().unwrap();
    assert_eq!((pace.observations, pace.fps, pace.dropped), (100, 2.0, 300));
}
