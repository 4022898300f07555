"""The builder by itself, with the example of docs/signing.md, and against an edge where the environment names one."""

import os
import time
import unittest
from urllib.error import HTTPError
from urllib.request import urlopen

from calotype import Delivery, Origin, SigningKey, Url, path, srcset, unsigned_url, url

DELIVERY = Delivery("https://img.example.com/", "demo")
KEY = SigningKey("demo", "2026-01", "an example secret, 32 bytes or more")


class Building(unittest.TestCase):
    def test_a_path_is_encoded_as_it_is_sent(self):
        for source, ops, expected in [
            ("summer/my beach.jpg", {"w": 400, "f": "auto"}, "/w=400,f=auto/summer/my%20beach.jpg"),
            ("@home?", {}, "/f=auto/%40home%3F"),
            ("a", {"w": None, "dl": "a,b/c.jpg", "anim": False}, "/dl=a%2Cb%2Fc.jpg,anim=false/a"),
            (Origin("local", "büro/a+b.jpg"), "-", "/-/@local/b%C3%BCro/a%2Bb.jpg"),
            (Url("https://x.example/a?b=c"), {"w": 1}, "/w=1/https%3A%2F%2Fx.example%2Fa%3Fb%3Dc"),
        ]:
            self.assertEqual(path(source, ops), expected)
        self.assertEqual(path("a"), "/f=auto/a")
        with self.assertRaises(ValueError):
            path("a", "w=1")

    def test_a_signature_is_that_of_the_guide(self):
        source, ops = Origin("local", "beach.jpg"), {"w": 400, "f": "auto"}
        start = "https://img.example.com/demo/w=400,f=auto/@local/beach.jpg"
        signed = f"{start}?kid=2026-01&sig=0MFYH1XILCSfZYBZOlSLQF1_nVAR9SvRvtwF5GJUhds"
        self.assertEqual(unsigned_url(DELIVERY, source, ops), start)
        self.assertEqual(url(DELIVERY, KEY, source, ops), signed)
        self.assertEqual(
            url(DELIVERY, KEY, source, ops, 1893456000.5),
            f"{start}?exp=1893456000&kid=2026-01&sig=JSKJblAl7LI_s7IwKeQuE0_y8l26rtXu_KuadfbhW5g",
        )
        own = url(Delivery("https://img.example.com"), KEY, source, ops)
        self.assertEqual(own, signed.replace("/demo/", "/"))
        self.assertNotIn("example secret", repr(KEY))

    def test_a_srcset_has_a_candidate_for_each_width(self):
        self.assertEqual(
            srcset(Delivery("http://e"), None, "a.jpg", [320, 640]),
            "http://e/f=auto,w=320/a.jpg 320w, http://e/f=auto,w=640/a.jpg 640w",
        )
        signed = srcset(DELIVERY, KEY, "a.jpg", [320, 640], {"h": 9}, 5)
        self.assertRegex(signed, r"^\S+/h=9,w=320/a\.jpg\?exp=5&kid=2026-01&sig=\S{43} 320w, \S+ 640w$")


@unittest.skipUnless("CALOTYPE_SIGNING_KEY" in os.environ, "no edge is named")
class Delivering(unittest.TestCase):
    def setUp(self):
        kid, secret = os.environ["CALOTYPE_SIGNING_KEY"].split(":", 1)
        self.key = SigningKey(os.environ["CALOTYPE_TENANT_ID"], kid, secret)
        self.delivery = Delivery(os.environ["CALOTYPE_DELIVERY_URL"], os.environ["CALOTYPE_TENANT"])

    def settles(self, address, status):
        """Once the edge has heard of what was changed."""
        for _ in range(600):
            try:
                with urlopen(address) as answer:
                    found = answer.status
            except HTTPError as error:
                found = error.code
                error.close()
            if found == status:
                return
            time.sleep(0.1)
        self.fail(f"{address}: {found}, not {status}")

    def test_the_edge_takes_what_is_signed_and_nothing_else(self):
        for source in ["summer/my büro (1)'s +~!*.png", Origin("web", "a b/ü,=&;@$.png")]:
            for ops in [{"w": 35, "bg": "#fff", "f": "webp"}, {"w": 36, "dl": "a,b c ü.jpg", "f": "jpeg"}, "-"]:
                self.settles(url(self.delivery, self.key, source, ops), 200)
                self.settles(url(self.delivery, self.key, source, ops, time.time() + 600), 200)
                self.settles(url(self.delivery, self.key, source, ops, 1), 403)
                self.settles(unsigned_url(self.delivery, source, ops), 403)
        for candidate in srcset(self.delivery, self.key, "summer/my büro (1)'s +~!*.png", [20, 40]).split(", "):
            self.settles(candidate.split(" ")[0], 200)


if __name__ == "__main__":
    unittest.main()
