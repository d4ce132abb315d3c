//! Addresses that may be called and that may not, and URLs that a subscription may have.

use super::*;

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts
        .iter()
        .map(|text| text.parse().expect("a network"))
        .collect()
}

fn is_called(address: &str, allowed: &[&str]) -> bool {
    check_address(address.parse().expect("an address"), &networks(allowed)).is_ok()
}

#[test]
fn nothing_but_public_addresses_is_called() {
    let refused = [
        ("no address", &["0.0.0.0", "::"][..]),
        ("this network", &["0.0.0.1", "0.255.255.255"]),
        ("loopback", &["127.0.0.1", "127.255.255.255", "::1"]),
        (
            "private",
            &[
                "10.0.0.0",
                "10.255.255.255",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.0.1",
                "192.168.255.255",
            ],
        ),
        ("carriers", &["100.64.0.0", "100.127.255.255"]),
        (
            "link-local",
            &["169.254.0.1", "169.254.255.255", "fe80::1", "febf:ffff::1"],
        ),
        (
            "metadata",
            &[
                "169.254.169.254",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "fd00:ec2::254",
            ],
        ),
        (
            "documentation",
            &[
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.255",
                "2001:db8::1",
                "3fff::1",
            ],
        ),
        ("benchmarks", &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
        (
            "multicast",
            &["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
        ),
        (
            "reserved",
            &[
                "192.0.0.1",
                "192.88.99.1",
                "240.0.0.1",
                "255.255.255.254",
                "4000::1",
                "2001:10::1",
                "5f00::1",
            ],
        ),
        ("broadcast", &["255.255.255.255"]),
        (
            "unique and site-local",
            &["fc00::1", "fdff:ffff::1", "fec0::1", "feff::1"],
        ),
        ("discarding", &["100::1"]),
        (
            "mapped and compatible",
            &[
                "::ffff:8.8.8.8",
                "::ffff:127.0.0.1",
                "::8.8.8.8",
                "::127.0.0.1",
                "::ffff:0:8.8.8.8",
            ],
        ),
        (
            "NAT64",
            &[
                "64:ff9b::8.8.8.8",
                "64:ff9b::10.0.0.1",
                "64:ff9b:1::8.8.8.8",
                "64:ff9b:1:ffff::10.0.0.1",
            ],
        ),
        (
            "6to4 and Teredo",
            &[
                "2002:808:808::1",
                "2002:7f00:1::1",
                "2001:0:808:808::f7f7:f7f7",
            ],
        ),
    ];
    for (what, addresses) in refused {
        for address in addresses {
            assert!(!is_called(address, &[]), "{what}: {address}");
        }
    }
    let called = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450::1",
        "2003::1",
    ];
    for address in called {
        assert!(is_called(address, &[]), "{address}");
    }
}

#[test]
fn what_the_configuration_names_is_called() {
    assert!(is_called("127.0.0.1", &["127.0.0.0/8"]) && !is_called("10.0.0.1", &["127.0.0.0/8"]));
    assert!(
        is_called("10.1.2.3", &["fd00::/8", "10.1.0.0/16"])
            && !is_called("10.2.0.0", &["fd00::/8", "10.1.0.0/16"])
    );
    assert!(is_called("::1", &["::1/128"]) && !is_called("::1", &["127.0.0.0/8"]));
    assert!(
        is_called("::ffff:10.0.0.1", &["10.0.0.0/8"]),
        "it is the same address"
    );
    assert!(!is_called("::ffff:127.0.0.1", &["10.0.0.0/8"]));
}

/// Otherwise an allowed network would be a way into one that is not.
#[test]
fn an_ipv4_address_within_an_ipv6_one_has_to_be_allowed_as_well() {
    let everything = ["::/0"];
    for inner in ["127.0.0.1", "169.254.169.254", "10.0.0.1"] {
        for address in [
            format!("64:ff9b::{inner}"),
            format!("64:ff9b:1::{inner}"),
            format!("::ffff:0:{inner}"),
        ] {
            assert!(!is_called(&address, &everything), "{address}");
            assert!(
                is_called(&address, &["::/0", &format!("{inner}/32")]),
                "{address}"
            );
        }
    }
    assert!(
        is_called("64:ff9b::8.8.8.8", &["64:ff9b::/96"]),
        "a network without IPv4"
    );
    assert!(!is_called("2002:7f00:1::1", &everything) && is_called("2002:808:808::1", &everything));
    // The server's address, and the client's with its bits inverted.
    assert!(
        !is_called("2001:0:7f00:1::f7f7:f7f7", &everything)
            && !is_called("2001:0:808:808::80ff:fffe", &everything)
    );
    assert!(is_called("2001:0:808:808::f7f7:f7f7", &everything));
}

fn checked(url: &str, allowed: &[&str]) -> Result<(), String> {
    let checked = check_target_url(url, &networks(allowed));
    checked.map(drop).map_err(|refused| refused.to_string())
}

#[test]
fn a_subscription_has_an_https_url_of_a_public_host() {
    let longest = format!("https://h.example/{}", "x".repeat(URL_MAX_BYTES - 18));
    for url in [
        "https://crm.example/hooks?a=b",
        "https://crm.example:8443",
        "https://8.8.8.8/",
        "https://[2606:4700::1]/",
        &longest,
    ] {
        assert_eq!(checked(url, &[]), Ok(()), "{url}");
    }
    let table = [
        ("", "absolute URL"),
        ("crm.example/hooks", "absolute URL"),
        ("https://", "absolute URL"),
        ("ftp://crm.example/", "found ftp"),
        ("file:///etc/passwd", "found file"),
        ("https://user@crm.example/", "send them in a header"),
        ("https://:hush@crm.example/", "send them in a header"),
        ("http://crm.example/", "expected https"),
        ("http://8.8.8.8/", "expected https"),
        ("https://localhost/", "loopback"),
        ("https://LOCALHOST./", "loopback"),
        ("https://a.localhost:9000/", "loopback"),
        ("https://10.0.0.1/", "10.0.0.1 is a private address"),
        ("https://[fd00::1]/", "fd00::1 is a private address"),
        ("https://[::ffff:7f00:1]/", "mapped into IPv6"),
        (&format!("{longest}x"), "at most 500 bytes"),
        (&longest.replace("xxx", "\u{e9}"), "at most 500 bytes"),
        ("https://crm.example:0/", "port from 1"),
        ("https://crm.example/a b", "no spaces"),
        ("https://.", "empty parts"),
    ];
    for (url, said) in table {
        let refused = checked(url, &[]).expect_err(url);
        assert!(
            refused.contains(said) && !refused.contains("hush"),
            "{url}: {refused}"
        );
    }
}

#[test]
fn an_address_is_the_same_however_it_is_spelt() {
    for host in [
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "127.0.0.1",
        "%31%32%37.0.0.1",
    ] {
        let url = format!("https://{host}/");
        assert!(
            checked(&url, &[])
                .is_err_and(|refused| refused.contains("127.0.0.1 is a loopback address")),
            "{host}"
        );
        let url = Url::parse(&url).expect("a URL");
        assert!(
            check_target_host(&url, &[]).is_err()
                && check_target_host(&url, &networks(&["127.0.0.0/8"])).is_ok(),
            "{host}"
        );
    }
    let fullwidth = "https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/";
    assert!(checked(fullwidth, &[]).is_err_and(|refused| refused.contains("loopback")));
}

#[test]
fn http_is_for_what_the_configuration_names() {
    let local = ["127.0.0.0/8", "10.1.0.0/16"];
    for url in [
        "http://127.0.0.1:9000/hooks",
        "http://10.1.2.3/",
        "http://localhost:9000/",
        "https://localhost/",
    ] {
        assert_eq!(checked(url, &local), Ok(()), "{url}");
    }
    for url in [
        "http://crm.example/",
        "http://8.8.8.8/",
        "http://10.2.0.1/",
        "http://[::1]/",
    ] {
        assert!(checked(url, &local).is_err(), "{url}");
    }
    assert_eq!(
        checked("http://localhost/", &["::1/128"]),
        Ok(()),
        "either of its addresses will do"
    );
}
