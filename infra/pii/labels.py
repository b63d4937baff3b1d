"""Words that tell what a number or a name is: labels of phone numbers, top-level domains."""

# Labels before a phone number, in any case.
PHONE_LABELS = (
    # Languages of Western and Northern Europe
    *("tel", "tele", "tél", "phone", "telephone", "telefon", "telefono", "teléfono", "telefone"),
    *("téléphone", "telefoon", "fon", "fax", "faks", "telefax", "mobile", "mobil", "móvil", "mob"),
    *("cell", "cellulare", "celular", "telemóvel", "portable", "handy", "gsm", "natel", "mobiel"),
    *("tlf", "puh", "puhelin", "sími", "whatsapp", "call", "hotline", "ph", "contact", "contacto"),
    *("cellphone", "landline", "telefonnummer", "rufnummer", "mobiltelefon", "handynummer", "festnetz"),
    *("fone", "cel", "contato", "fono", "tfno", "fisso", "fixe", "teléfonos", "téls", "tels"),
    # Central and Eastern Europe, Turkey
    *("komórka", "kom", "telefón", "τηλ", "τηλέφωνο", "κιν", "κινητό", "φαξ"),
    *("тел", "телефон", "моб", "мобильный", "факс", "мобилен", "мобільний"),
    # Middle East
    *("هاتف", "تلفون", "تليفون", "جوال", "موبايل", "فاكس", "تلفن", "موبایل", "فون"),
    *("טלפון", "טל", "נייד", "פקס"),
    # South and South-East Asia
    *("फोन", "मोबाइल", "दूरभाष", "ফোন", "মোবাইল", "telp", "telepon", "đt", "sđt", "thoại"),
    *("전화", "전화번호", "휴대폰", "핸드폰", "팩스", "연락처"),
)  # fmt: skip
# The same in scripts without spaces, where no space separates the word before.
UNSPACED_PHONE_LABELS = (
    *("电话", "电话号码", "電話", "電話番号", "電話號碼", "手机", "手机号", "手機", "传真", "傳真", "热线"),
    *("携帯", "携帯電話", "ファックス", "โทร", "โทรศัพท์", "มือถือ", "แฟกซ์"),
)  # fmt: skip

# Internationalized top-level domains in use (IANA's root zone); of ASCII ones any is accepted.
IDN_TLDS = (
    *("рф", "рус", "дети", "москва", "онлайн", "сайт", "орг", "ком", "бел", "укр", "срб", "мкд"),
    *("мон", "қаз", "бг", "ею", "католик", "ευ", "ελ", "հայ", "გე"),
    *("中国", "中國", "香港", "台湾", "台灣", "新加坡", "澳門", "公司", "网络", "网址", "网站", "在线"),
    *("中文网", "集团", "商城", "商店", "企业", "游戏", "娱乐", "世界", "移动", "手机", "慈善", "公益"),
    *("政务", "政府", "机构", "组织机构", "我爱你", "时尚", "信息", "健康", "餐厅", "招聘", "网店", "购物"),
    *("佛山", "广东", "みんな", "コム", "クラウド", "ストア", "セール", "ファッション", "ポイント"),
    *("한국", "닷컴", "닷넷", "삼성", "ไทย", "คอม", "ລາວ"),
    *("भारत", "भारतम्", "संगठन", "नेट", "कॉम", "বাংলা", "ভারত", "ভাৰত", "ਭਾਰਤ", "ભારત", "ଭାରତ"),
    *("இந்தியா", "சிங்கப்பூர்", "இலங்கை", "భారత్", "ಭಾರತ", "ഭാരതം", "ලංකා"),
    *("مصر", "السعودية", "امارات", "ایران", "الاردن", "الجزائر", "المغرب", "تونس", "قطر", "فلسطين"),
    *("سورية", "عمان", "سودان", "بھارت", "پاکستان", "موريتانيا", "البحرين", "عراق", "مليسيا"),
    *("شبكة", "موقع", "بازار", "كوم", "عرب", "קום", "ישראל"),
)  # fmt: skip
