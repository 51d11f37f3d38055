"""The merchants of sample receipts: names, products and print layout."""

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

from faker import Faker

Kind = Literal["supermarket", "restaurant", "pharmacy", "fuel", "hardware", "cafe"]
KINDS: tuple[Kind, ...] = ("supermarket", "restaurant", "pharmacy", "fuel", "hardware", "cafe")

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "supermarket": ("MARKET", "FOODS", "GROCERY", "SUPERMARKET", "FRESH MART"),
    "restaurant": ("GRILL", "KITCHEN", "DINER", "BISTRO & BAR", "NOODLE HOUSE"),
    "pharmacy": ("PHARMACY", "DRUGS", "HEALTH & BEAUTY", "APOTHECARY"),
    "fuel": ("GAS", "FUEL STOP", "PETROLEUM", "SERVICE STATION"),
    "hardware": ("HARDWARE", "TOOLS & PAINT", "HOME CENTER", "LUMBER CO"),
    "cafe": ("COFFEE", "BAKERY", "TEA ROOM", "ESPRESSO BAR"),
}
_ADJECTIVES: dict[Kind, tuple[str, ...]] = {
    "supermarket": ("Organic", "Fresh", "Whole", "Low Fat", "Large", "Sliced", "Frozen", "Family", "Red", "Baby"),
    "restaurant": ("Grilled", "Spicy", "House", "Crispy", "Steamed", "Daily", "Smoked", "Small", "Roasted"),
    "pharmacy": ("Extra Strength", "Daily", "Sensitive", "Childrens", "Gentle", "Travel", "Mint", "Sugar Free"),
    "fuel": ("Sparkling", "King Size", "Hot", "Salted", "Diet", "Large", "Cold"),
    "hardware": ("Galvanized", "Steel", "Heavy Duty", "Wood", "Brass", "Interior", "PVC", "Flat", "Outdoor"),
    "cafe": ("Iced", "Double", "Vanilla", "Almond", "Oat Milk", "Blueberry", "Small", "Warm"),
}
_NOUNS: dict[Kind, tuple[str, ...]] = {
    "supermarket": ("Milk", "Eggs", "Bananas", "Bread", "Cheddar Cheese", "Apples", "Chicken", "Rice 5 LB", "Spinach"),
    "restaurant": ("Salmon", "Burger", "Fried Rice", "Caesar Salad", "Ribs", "Soup", "Fries", "Dumplings", "Cola"),
    "pharmacy": ("Pain Relief 24 CT", "Toothpaste", "Shampoo", "Vitamin C", "Lotion", "Bandages", "Cough Drops"),
    "fuel": ("Water", "Candy Bar", "Coffee", "Chips", "Energy Drink", "Peanuts", "Ice 10 LB"),
    "hardware": ("Screws 50 PK", "Hinge", "Paint 1 GAL", "Hammer", "Elbow 3/4", "Door Lock", "Tape", "Drill Bit 6"),
    "cafe": ("Latte", "Muffin", "Croissant", "Americano", "Bagel", "Chai Tea", "Cookie", "Scone"),
}
_PRICES: dict[Kind, tuple[int, int]] = {  # cents, minimum and maximum
    "supermarket": (79, 1299),
    "restaurant": (350, 2895),
    "pharmacy": (199, 1999),
    "fuel": (99, 699),
    "hardware": (49, 6999),
    "cafe": (225, 795),
}
DATE_FORMATS = ("%m/%d/%Y", "%m-%d-%y", "%Y-%m-%d", "%d %b %Y")
TIME_FORMATS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M%p")


@dataclass(frozen=True, slots=True)
class Merchant:
    """One merchant, with everything that its receipts share. Lengths are in characters."""

    name: str
    kind: Kind
    street: str
    city: str
    phone: str
    website: str
    columns: int  # characters in a line of normal type
    header_align: Literal["left", "center"]
    header_scale: float  # size of the name's type, 1 = normal
    date_format: str
    time_format: str
    date_on_top: bool
    currency: str  # before an amount
    upper_case: bool
    phone_word: str
    subtotal_words: str
    tax_words: str
    total_words: str
    tax_rate: int  # hundredths of a per cent


def merchant(fake: Faker, seed: int, index: int) -> Merchant:
    """Merchant number `index` of a seed; `fake` is reseeded, so that earlier draws have no influence."""
    draw = seeded(seed, f"merchant {index}")
    fake.seed_instance(draw.getrandbits(64))
    kind = KINDS[index % len(KINDS)]
    stem = draw.choice((str(fake.last_name()), f"{fake.last_name()} & {fake.last_name()}", str(fake.city())))
    name = f"{stem} {draw.choice(_SUFFIXES[kind])}".upper()
    rate = draw.randint(400, 1050)
    return Merchant(
        name=name,
        kind=kind,
        street=str(fake.street_address()).replace("\n", " "),
        city=f"{fake.city()}, {fake.state_abbr(include_territories=False)} {fake.postcode()}",
        phone=draw.choice(("({}) {}-{}", "{}-{}-{}")).format(*fake.numerify("%## %## ####").split()),
        website=f"www.{''.join(filter(str.isalnum, stem)).lower()}.com",
        columns=draw.randint(36, 48),
        header_align=draw.choice(("left", "center", "center")),
        header_scale=draw.choice((1.0, 1.3, 1.6)),
        date_format=draw.choice(DATE_FORMATS),
        time_format=draw.choice(TIME_FORMATS),
        date_on_top=draw.random() < 0.6,
        currency=draw.choice(("", "", "$")),
        upper_case=draw.random() < 0.5,
        phone_word=draw.choice(("Tel:", "Phone", "TEL", "")),
        subtotal_words=draw.choice(("SUBTOTAL", "Sub Total", "Sub-Total:", "Net Amount", "Items Total")),
        tax_words=draw.choice(("TAX", "Sales Tax", f"TAX {rate / 100:.2f}%", "State Tax")),
        total_words=draw.choice(("TOTAL", "Total Due", "GRAND TOTAL", "Balance Due", "AMOUNT DUE")),
        tax_rate=rate,
    )


def product(kind: Kind, draw: random.Random) -> tuple[str, int]:
    """A product's name and its price in cents."""
    name = draw.choice(_NOUNS[kind])
    if draw.random() < 0.7:
        name = f"{draw.choice(_ADJECTIVES[kind])} {name}"
    return name, draw.randint(*_PRICES[kind])


def seeded(seed: int, name: str) -> random.Random:
    """A separate random generator for one purpose of a seed."""
    return random.Random(int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()))
