use proptest::prelude::*;
use rstest::rstest;

use super::*;

const AMPLE: Memory = Memory::Ample;
const TIGHT: Memory = Memory::Tight;

fn name(n: usize) -> &'static BackendName {
    static NAMES: std::sync::LazyLock<Vec<BackendName>> =
        std::sync::LazyLock::new(|| (0..9).map(|n| BackendName::new(&format!("web-{n}")).unwrap()).collect());
    &NAMES[n]
}

fn member(n: usize, flows: u64) -> Member<'static> {
    Member {
        backend: name(n),
        weight: 1,
        reserve: 0,
        flows: Some(flows),
        elsewhere: (0, 0),
        max_flows: None,
        memory: &AMPLE,
        headroom: Some(0.5),
        thresholds: Thresholds::default(),
        carried: None,
        line: None,
    }
}

fn carried(flows: u64) -> Option<Carried> {
    Some(Carried { flows, headroom: 0.4, ended_ms: 0 })
}

fn pool(members: &[Member<'static>]) -> Pool<'static> {
    Pool { members: members.to_vec(), min_in_rotation: 0 }
}

/// Of a single pool.
fn worst_loss<'a>(pool: &Pool<'a>) -> Option<(&'a BackendName, Assessment)> {
    worst_losses(&mut [pool.clone()]).pop().flatten()
}

/// Verdict, and the words of the first evidence.
fn words(pool: &Pool<'_>, change: Change<'_>) -> (Verdict, String) {
    let answer = assess(pool, change).answer;
    (answer.verdict(), answer.evidence().first().map_or(String::new(), Evidence::to_string))
}

#[rstest]
#[case::limit_holds(Member { max_flows: Some(150), ..member(0, 100) }, Verdict::Fits, "its max_flows is 150")]
#[case::limit_does_not(Member { max_flows: Some(149), ..member(0, 100) }, Verdict::DoesNotFit, "its max_flows is 149")]
#[case::limit_goes_before_what_was_carried(
    Member { max_flows: Some(149), carried: carried(500), ..member(0, 100) },
    Verdict::DoesNotFit,
    "its max_flows is 149"
)]
#[case::carried_as_much(
    Member { carried: carried(150), ..member(0, 100) },
    Verdict::Fits,
    "it carried 150 active flows for ten minutes with 40 % of its memory left"
)]
#[case::carried_less_is_no_proof(
    Member { carried: carried(149), ..member(0, 100) },
    Verdict::CannotTell,
    "the most it is known to have carried is 149 active flows for ten minutes with 40 % of its memory left"
)]
#[case::nothing_known(
    member(0, 100),
    Verdict::CannotTell,
    "it has no max_flows, and no load of the last 14 days with memory to spare shows it"
)]
#[case::short_already_goes_before_all(
    Member { memory: &TIGHT, headroom: Some(0.123), max_flows: Some(1000), ..member(0, 100) },
    Verdict::DoesNotFit,
    "its memory is short already (12.3 % headroom)"
)]
fn drain_of_one_of_three_the_best_evidence_decides(
    #[case] first: Member<'static>,
    #[case] verdict: Verdict,
    #[case] why: &str,
) {
    let other = Member { max_flows: Some(1000), ..member(1, 100) };
    let pool = pool(&[first, other, member(2, 100)]);
    let expected = format!("web-0 would have 150 active flows instead of 100: {why}");
    assert_eq!(words(&pool, Change::Out(name(2))), (verdict, expected));
}

#[test]
fn flows_that_are_not_known_cannot_tell() {
    let pool = pool(&[member(0, 1), Member { flows: None, ..member(1, 0) }]);
    let why = "web-0: how many flows there are is not known yet".to_owned();
    assert_eq!(words(&pool, Change::Out(name(1))), (Verdict::CannotTell, why));
}

#[test]
fn flows_spread_by_weight_and_stay_where_they_are() {
    let light = Member { weight: 1, max_flows: Some(1000), ..member(0, 40) };
    let heavy = Member { weight: 3, max_flows: Some(1000), ..member(1, 500) };
    let answer = assess(&pool(&[light, heavy, member(2, 100)]), Change::Out(name(2))).answer;
    let expected: Vec<_> = answer.evidence().iter().map(|e| (e.backend.as_str(), e.expected)).collect();
    // All 640 by weight are 160 and 480, but the heavy one keeps its 500 and gets three quarters of 100.
    assert_eq!(expected, [("web-0", Some(160)), ("web-1", Some(575))]);
}

#[test]
fn weight_that_grows_asks_for_the_one_that_shrinks_for_the_others() {
    let limited = |n| Member { weight: 10, max_flows: Some(120), ..member(n, 100) };
    let pool = pool(&[limited(0), limited(1), limited(2)]);
    let who = |weight| {
        let answer = assess(&pool, Change::Weight(name(0), weight)).answer;
        let who: Vec<_> = answer.evidence().iter().map(|e| (e.backend.as_str().to_owned(), e.expected)).collect();
        (answer.verdict(), who)
    };
    assert_eq!(who(20), (Verdict::DoesNotFit, vec![("web-0".into(), Some(150))]));
    assert_eq!(who(5), (Verdict::Fits, vec![("web-1".into(), Some(120)), ("web-2".into(), Some(120))]));
    assert_eq!(who(10), (Verdict::Fits, vec![]));
    assert_eq!(assess(&pool, Change::Weight(name(0), 0)), assess(&pool, Change::Out(name(0))));
}

#[test]
fn last_one_does_not_fit_and_single_and_minimum_are_findings() {
    let big = |n| Member { max_flows: Some(1000), ..member(n, 100) };
    let mut pool = pool(&[big(0), big(1)]);
    pool.min_in_rotation = 2;
    let single = assess(&pool, Change::Out(name(1)));
    assert_eq!(single.answer.verdict(), Verdict::Fits);
    let words: Vec<String> = single.findings.iter().map(Finding::to_string).collect();
    assert_eq!(
        words,
        [
            "web-0 alone is left in rotation: if it fails, so does the service",
            "1 left in rotation, and min_in_rotation is 2"
        ]
    );
    pool.members[0].weight = 0;
    let none = assess(&pool, Change::Out(name(1)));
    assert_eq!(none.answer, Answer::DoesNotFit(vec![]));
    assert_eq!(none.findings[0], Finding::LeavesNone);
    // One that is out already changes nothing.
    assert_eq!(assess(&pool, Change::Out(name(0))), Assessment { answer: Answer::Fits(vec![]), findings: vec![] });
}

#[test]
fn nothing_asks_for_all_in_rotation_with_what_still_leaves_the_others() {
    let limited = |n, max_flows| Member { max_flows: Some(max_flows), ..member(n, 100) };
    let out = Member { weight: 0, ..member(2, 100) };
    let verdict = |max| assess(&pool(&[limited(0, 150), limited(1, max), out]), Change::Nothing).answer.verdict();
    assert_eq!((verdict(150), verdict(149)), (Verdict::Fits, Verdict::DoesNotFit));
}

#[test]
fn worst_loss_names_the_member_whose_loss_does_not_fit() {
    let limited = |n, flows| Member { max_flows: Some(180), ..member(n, flows) };
    let pool = pool(&[limited(0, 20), limited(1, 150), limited(2, 60)]);
    let (who, assessment) = worst_loss(&pool).unwrap();
    // Without web-1 the two others would have 95 and 135; without web-2, web-1 would have 180; without web-0, 160.
    assert_eq!((who, assessment.answer.verdict()), (name(1), Verdict::Fits));
    let pool = Pool { members: vec![limited(0, 20), limited(1, 150), limited(2, 70)], min_in_rotation: 0 };
    let (who, assessment) = worst_loss(&pool).unwrap();
    assert_eq!((who, assessment.answer.verdict()), (name(2), Verdict::DoesNotFit));
    assert_eq!(worst_loss(&Pool { members: vec![], min_in_rotation: 0 }).map(|_| ()), None);
}

#[test]
fn server_that_leaves_two_services_leaves_the_flows_of_both_to_who_serves_both() {
    let both = |own: u64, other: u64| Member { elsewhere: (other, other), ..member(0, own) };
    let limited = |max_flows, m: Member<'static>| Member { max_flows: Some(max_flows), ..m };
    let gone = |own, other| Member { elsewhere: (other, other), ..member(1, own) };
    // web-0 has 100 and 40 flows, web-1 60 and 30: alone in both, web-0 would have 230.
    let ask = |max| {
        let web = pool(&[limited(max, both(100, 40)), gone(60, 30)]);
        let api = pool(&[limited(max, both(40, 100)), gone(30, 60)]);
        let mut pools = [web, api];
        let out = Change::Out(name(1));
        let answers = assess_together(&mut pools, &[(0, out), (1, out)]);
        assert_eq!(
            worst_losses(&mut pools)[0].as_ref().map(|(_, a)| a.answer.verdict()),
            Some(Verdict::CannotTell.max(answers[0].answer.verdict()))
        );
        answers.into_iter().map(|a| (a.answer.verdict(), a.answer.evidence()[0].to_string())).collect::<Vec<_>>()
    };
    let why = |max| format!("web-0 would have 230 active flows instead of 140: its max_flows is {max}");
    assert_eq!(ask(230), vec![(Verdict::Fits, why(230)); 2]);
    assert_eq!(ask(229), vec![(Verdict::DoesNotFit, why(229)); 2]);
    // Of one service alone, the other's flows stay.
    let mut one = [pool(&[limited(200, both(100, 40)), gone(60, 30)])];
    let answer = assess_together(&mut one, &[(0, Change::Out(name(1)))]).remove(0).answer;
    let why = "web-0 would have 200 active flows instead of 140: its max_flows is 200";
    assert_eq!((answer.verdict(), answer.evidence()[0].to_string().as_str()), (Verdict::Fits, why));
}

#[test]
fn backups_take_over_when_the_last_of_the_others_is_lost() {
    let backup = |max_flows| Member { weight: 0, reserve: 1, max_flows: Some(max_flows), ..member(1, 0) };
    let limited = Member { max_flows: Some(1000), ..member(0, 100) };
    let loss = |max| worst_loss(&pool(&[limited, backup(max)])).map(|(who, a)| (who, a.answer.verdict(), a.findings));
    assert_eq!(loss(100).unwrap(), (name(0), Verdict::Fits, vec![]));
    assert_eq!(loss(99).unwrap(), (name(0), Verdict::DoesNotFit, vec![]));
    // While others serve, it stands by.
    let two = pool(&[limited, Member { max_flows: Some(150), ..member(2, 100) }, backup(1)]);
    assert_eq!(assess(&two, Change::Out(name(2))).answer.verdict(), Verdict::Fits);
    assert_eq!(assess(&two, Change::Out(name(2))).findings, [Finding::LeavesSingle { backend: name(0).clone() }]);
}

#[test]
fn memory_that_became_short_is_no_evidence_over_the_life_of_a_lease() {
    let tight = Member { memory: &TIGHT, max_flows: Some(150), ..member(0, 100) };
    let pool =
        pool(&[tight, Member { max_flows: Some(150), ..member(1, 100) }, Member { weight: 0, ..member(2, 100) }]);
    assert_eq!(assess(&pool, Change::Nothing).answer.verdict(), Verdict::Fits);
    assert_eq!(assess(&pool, Change::Out(name(1))).answer.verdict(), Verdict::DoesNotFit);
}

#[test]
fn nobody_gets_more_and_nothing_is_known_all_the_same_it_fits() {
    let idle = pool(&[member(0, 0), member(1, 0), member(2, 0)]);
    let why = "web-0 would have 0 active flows instead of 0: it has as many now".to_owned();
    assert_eq!(words(&idle, Change::Out(name(2))), (Verdict::Fits, why));
}

fn any_member(n: usize) -> impl Strategy<Value = Member<'static>> {
    (0u32..5, proptest::option::weighted(0.9, 0u64..500), proptest::option::of(0u64..1000), 0u8..4, 0u64..1000)
        .prop_map(move |(weight, flows, max_flows, memory, most)| Member {
            weight,
            flows,
            max_flows,
            memory: if memory == 0 { &TIGHT } else { &AMPLE },
            carried: carried(most).filter(|_| memory == 1),
            ..member(n, 0)
        })
}

proptest! {
    #[test]
    fn any_pool_fits_only_what_each_can_carry_and_more_load_never_fits_better(
        members in (2usize..9).prop_flat_map(|n| (0..n).map(any_member).collect::<Vec<_>>()),
        who in 0usize..9,
        more in 0u64..500,
    ) {
        let who = who % members.len();
        let asked = pool(&members);
        let assessment = assess(&asked, Change::Out(name(who)));
        let evidence = assessment.answer.evidence();
        prop_assert_eq!(
            assessment.answer.verdict(),
            evidence.iter().map(|e| e.verdict).max().unwrap_or(assessment.answer.verdict())
        );
        if assessment.answer.verdict() == Verdict::Fits {
            // What the others would have is all there is, and each has room for its part.
            let left = members.iter().enumerate().filter(|(n, m)| *n != who && m.weight > 0);
            if members[who].weight > 0 {
                let all: u64 = members.iter().map(|m| m.flows.unwrap_or(0)).sum();
                prop_assert!(evidence.iter().filter_map(|e| e.expected).sum::<u64>() >= all);
                for (_, m) in left {
                    let own = evidence.iter().find(|e| e.backend == *m.backend).unwrap();
                    prop_assert!(m.max_flows.or(m.carried.map(|c| c.flows)).max(m.flows).unwrap() >= own.expected.unwrap());
                }
            }
        }
        let mut heavier = asked.clone();
        heavier.members[who].flows = heavier.members[who].flows.map(|flows| flows + more);
        prop_assert!(assess(&heavier, Change::Out(name(who))).answer.verdict() >= assessment.answer.verdict());
        let each = members.iter().filter(|m| m.weight > 0);
        let each = each.map(|m| (assess(&asked, Change::Out(m.backend)).answer.verdict(), m.flows, Reverse(m.backend)));
        let worst = worst_loss(&asked).map(|(backend, a)| (a.answer.verdict(), Reverse(backend)));
        prop_assert_eq!(worst, each.max().map(|(verdict, _, backend)| (verdict, backend)));
    }
}
