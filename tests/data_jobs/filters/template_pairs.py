"""Pairs of documents made from one form: half state different facts, half are copies in which only what stands around
the text was changed. Seeded: the same seed gives the same pairs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# Of each domain: title and sentences with {name}, {number}, {other}; what stands around; a negated sentence; names.
DOMAINS: dict[str, dict[str, list[str]]] = {
    "data sheet, English": {
        "form": [
            "{name} data sheet",
            "The equipment must be isolated from the supply before any work begins, and the operator records the state "
            "of every valve in the log.",
            "The highest pressure of {name} is {number} bar.",
            "After the work the seals are checked twice, the load is raised in small steps, and the alarm is tested.",
            "Any leak has to be reported to the control room at once, whoever finds it and whatever the hour may be.",
            "The permit is returned to the office on the same day and kept in the archive for five years.",
            "The housing {negated} be opened while the lamp is lit.",
            "A spare part may be ordered from the store in {other} with the form that hangs beside the door.",
            "Questions about this sheet are answered by the head of maintenance during the hours of the day shift.",
        ],
        "negated": ["may", "may not"],
        "name": ["Pump P1", "Pump P2", "Pump P7", "Valve V12", "Boiler Delta", "Boiler Omega"],
        "other": ["Leeds", "Bristol", "Cardiff", "Glasgow"],
        "around": ["Printed on 12 March 2024", "Page 3 of 17", "Home > Products > Data sheets", "Copyright 2023 Acme"],
        "more": ["We thank all readers who helped us to make this sheet better."],
    },
    "FAQ, English": {
        "form": [
            "What does the {name} plan include?",
            "Every plan comes with a mailbox, a calendar, shared folders and a desktop client for the usual systems.",
            "The {name} plan allows up to {number} users and can be changed at the end of each month.",
            "Invoices are sent by mail on the first working day, and payment is due within thirty days of receipt.",
            "Data is stored in {other} and copied every night to a second site that is run by the same team.",
            "Telephone support {negated} included.",
            "To move to another plan, open the settings, choose billing, pick the plan and confirm it.",
            "An account that is closed can be opened again within ninety days, after that its data is deleted.",
            "If something is still unclear, write to the help desk and name the number of your contract.",
        ],
        "negated": ["is", "is not"],
        "name": ["Basic", "Team", "Business", "Enterprise", "Starter"],
        "other": ["Frankfurt", "Dublin", "Stockholm", "Oregon"],
        "around": ["Last updated: 2024-05-01", "Help > Billing > Plans", "© 2022 Example Ltd", "Page 1 of 2"],
        "more": ["Was this page of help to you? Let us know."],
    },
    "Datenblatt, German": {
        "form": [
            "Betriebsanweisung {name}",
            "Vor Beginn der Arbeiten ist die Anlage vom Netz zu trennen und gegen Wiedereinschalten zu sichern.",
            "Der höchste Druck von {name} beträgt {number} bar.",
            "Nach der Arbeit werden alle Dichtungen zweimal geprüft, danach wird die Last in kleinen Schritten erhöht.",
            "Jede undichte Stelle ist sofort der Leitwarte zu melden, gleich wer sie findet und zu welcher Stunde.",
            "Der Erlaubnisschein wird am selben Tag im Büro abgegeben und dort fünf Jahre lang aufbewahrt.",
            "Das Gehäuse darf {negated} geöffnet werden, solange die Lampe leuchtet.",
            "Ersatzteile werden im Lager in {other} mit dem Formular bestellt, das neben der Tür hängt.",
            "Fragen zu diesem Blatt beantwortet die Leitung der Instandhaltung während der Tagschicht.",
        ],
        "negated": ["kurz", "nicht"],
        "name": ["Pumpe A4", "Pumpe A5", "Kessel Nord", "Kessel Süd"],
        "other": ["Kassel", "Bremen", "Rostock", "Ulm"],
        "around": ["Gedruckt am 3. Mai 2024", "Seite 2 von 9", "Start > Anlagen > Blätter", "Stand: 01.02.2023"],
        "more": ["Wir danken allen, die an diesem Blatt mitgearbeitet haben."],
    },
    "horaires, French": {
        "form": [
            "Ligne {name}",
            "Les voyageurs sont priés de se présenter au quai avant le départ et de préparer leur titre de transport.",
            "Le premier train de la ligne {name} part à {number} heures.",
            "Les bagages doivent être placés dans les espaces prévus et ne pas gêner le passage des autres personnes.",
            "En cas de retard, les annonces sont faites dans toutes les voitures et affichées sur les écrans du quai.",
            "Les animaux {negated} admis dans les voitures de première classe.",
            "Les billets peuvent être échangés au guichet de la gare de {other} jusqu'à la veille du voyage.",
            "Chaque voiture dispose d'un agent que l'on appelle avec le bouton rouge placé à côté de chaque siège.",
            "Les remarques sont reçues par le service de la clientèle pendant les heures d'ouverture de la gare.",
        ],
        "negated": ["sont", "ne sont pas"],
        "name": ["B12", "B14", "C3", "Azur", "Mistral"],
        "other": ["Lyon", "Dijon", "Nantes", "Lille"],
        "around": ["Imprimé le 4 juin 2024", "Page 2 sur 5", "Accueil > Lignes > Horaires", "Mise à jour : 12/05/2023"],
        "more": ["Nous vous souhaitons un très bon voyage sur notre réseau."],
    },
    "регламент, Russian": {
        "form": [
            "Регламент: {name}",
            "Перед началом работ оборудование отключают от сети и вывешивают табличку с именем ответственного лица.",
            "Наибольшее давление для установки {name} составляет {number} бар.",
            "После окончания работ все уплотнения проверяют дважды, затем нагрузку повышают небольшими шагами.",
            "О каждой утечке следует сразу сообщить на пульт управления, кто бы и в какое время её ни заметил.",
            "Наряд сдают в контору в тот же день и хранят там в течение пяти лет вместе с журналом смены.",
            "Корпус {negated} открывать, пока горит красная лампа.",
            "Запасные части заказывают на складе в городе {other} по форме, которая висит рядом с дверью.",
            "На вопросы об этом документе отвечает начальник участка в часы дневной смены.",
        ],
        "negated": ["можно", "нельзя"],
        "name": ["Насос Н1", "Насос Н2", "Котёл Север", "Котёл Восток"],
        "other": ["Тверь", "Казань", "Пермь", "Омск"],
        "around": ["Напечатано 12.03.2024", "Страница 3 из 8", "Главная > Документы > Бланки", "© 2022 Завод"],
        "more": ["Мы благодарим всех, кто помог сделать этот документ лучше."],
    },
    "车站, Chinese": {
        "form": [
            "{name}乘车须知",
            "请提前到达站台等候，并且带好您的车票和护照以便工作人员检查。",
            "从{name}开出的第一班列车在早上{number}点出发。",
            "行李请放在座位上方指定的位置，通道和车门附近应当保持畅通。",
            "每节车厢都有一名乘务员，如果需要帮助请按座位旁边的红色按钮。",
            "{other}方向的旅客应当在中央大厅换乘，并按照墙上的标志行走。",
            "车厢内{negated}饮食。",
            "遇到晚点时，车厢里的广播和站台上的屏幕会告诉旅客最新的安排。",
            "车票可以在出发前一天到售票窗口退换，逾期则需要支付手续费用。",
            "如果对本须知还有疑问，请在营业时间内向旅客服务中心咨询。",
        ],
        "negated": ["可以", "不可以"],
        "name": ["东京站", "北京南站", "广州站", "成都东站"],
        "other": ["上海", "杭州", "武汉", "西安"],
        "around": ["打印日期：2024年3月12日", "第3页 共8页", "首页 > 车站 > 须知", "版权所有 2023"],
        "more": ["感谢您选择我们的列车，祝您旅途愉快。"],
    },
    "製品, Japanese": {
        "form": [
            "{name}の取扱い",
            "作業を始める前に必ず装置の電源を切り、担当者の名前を書いた札を掛けてください。",
            "{name}の最高圧力は{number}バールです。",
            "作業が終わったら、すべてのシールを二回点検し、負荷を少しずつ上げてください。",
            "漏れを見つけた場合は、時間にかかわらず、すぐに中央制御室へ連絡してください。",
            "許可証はその日のうちに事務所へ返却し、日誌と一緒に五年間保管します。",
            "ランプが点灯している間は、カバーを開け{negated}。",
            "交換部品は{other}の倉庫に、扉の横にある用紙で注文することができます。",
            "この文書についての質問は、日勤の時間に保全課の責任者が受け付けます。",
        ],
        "negated": ["られます", "られません"],
        "name": ["ポンプP1", "ポンプP2", "ボイラー甲", "ボイラー乙"],
        "other": ["大阪", "名古屋", "札幌", "福岡"],
        "around": ["印刷日：2024年3月12日", "3ページ", "ホーム > 製品 > 取扱い", "最終更新 2023/04/01"],
        "more": ["この文書の作成に協力してくださった皆様に感謝いたします。"],
    },
    "clínica, Spanish": {
        "form": [
            "Consulta {name}",
            "Los pacientes deben presentarse en la recepción antes de la hora de su cita con la tarjeta sanitaria.",
            "La consulta {name} atiende a un máximo de {number} personas cada mañana y no admite visitas sin cita.",
            "Los resultados de los análisis se entregan en mano o se envían por correo a la dirección indicada.",
            "En caso de urgencia llame al teléfono que figura en la puerta y espere las indicaciones del personal.",
            "Los acompañantes {negated} entrar en la sala de curas durante el tratamiento.",
            "Las recetas se recogen en la farmacia de {other} a partir del día siguiente y hasta una semana después.",
            "Para cambiar una cita, escriba al centro con el número de su historia y la fecha que prefiere.",
            "Las quejas y sugerencias se reciben en el mostrador de la planta baja en horario de oficina.",
        ],
        "negated": ["pueden", "no pueden"],
        "name": ["Dermatología", "Cardiología", "Pediatría", "Neurología"],
        "other": ["Toledo", "Burgos", "Cádiz", "Huesca"],
        "around": [
            "Impreso el 3 de mayo de 2024",
            "Página 2 de 6",
            "Inicio > Centros > Citas",
            "Copyright 2023 Clínica",
        ],
        "more": ["Gracias por confiar en nuestro equipo de profesionales."],
    },
    "ประกาศ, Thai": {
        "form": [
            "ประกาศของ{name}",
            "ผู้โดยสารทุกท่านต้องมาถึงชานชาลาก่อนเวลาออกเดินทาง และเตรียมตั๋วพร้อมบัตรประจำตัวเพื่อให้เจ้าหน้าที่ตรวจสอบ",
            "รถไฟขบวนแรกจาก{name}ออกเดินทางเวลา {number} นาฬิกา",
            "กรุณาวางกระเป๋าเดินทางไว้ในที่ที่จัดไว้ และอย่าวางสิ่งของกีดขวางทางเดินหรือประตูของตู้โดยสาร",
            "หากต้องการความช่วยเหลือ โปรดกดปุ่มสีแดงที่อยู่ข้างที่นั่ง แล้วเจ้าหน้าที่ประจำตู้จะเข้ามาหาท่าน",
            "ผู้โดยสาร{negated}รับประทานอาหารในตู้โดยสาร",
            "ผู้ที่จะเดินทางต่อไปยัง{other}ต้องเปลี่ยนขบวนที่ห้องโถงกลาง และเดินตามป้ายที่ติดอยู่บนผนัง",
            "ตั๋วสามารถเปลี่ยนได้ที่ช่องจำหน่ายจนถึงหนึ่งวันก่อนเดินทาง หลังจากนั้นจะต้องเสียค่าธรรมเนียม",
            "หากมีข้อสงสัยเพิ่มเติม กรุณาติดต่อศูนย์บริการผู้โดยสารในเวลาทำการ",
        ],
        "negated": ["สามารถ", "ไม่สามารถ"],
        "name": ["สถานีเชียงใหม่", "สถานีหัวหิน", "สถานีอยุธยา", "สถานีขอนแก่น"],
        "other": ["ภูเก็ต", "ระยอง", "นครปฐม", "ลำปาง"],
        "around": ["พิมพ์เมื่อ 12 มีนาคม 2024", "หน้า 3", "หน้าแรก > สถานี > ประกาศ", "ปรับปรุงล่าสุด 2023"],
        "more": ["ขอบคุณที่ใช้บริการของเรา"],
    },
}
HELD_OUT = ("clínica, Spanish", "ประกาศ, Thai")
"""Domains that nobody looked at while the rules were made."""
KINDS = ("number", "name", "other", "negation")


@dataclass(frozen=True)
class TemplatePair:
    """Two documents of one form, and whether they state different facts; ``kind`` says what was changed."""

    domain: str
    kind: str
    left: str
    right: str
    different: bool


def make_pairs(seed: int, each: int, held_out: bool = False) -> list[TemplatePair]:
    """``each`` different and as many equal pairs of every domain, those in ``HELD_OUT`` only where asked for."""
    picker = random.Random(seed)
    found = []
    for domain, parts in DOMAINS.items():
        if domain in HELD_OUT and not held_out:
            continue
        for number in range(each):
            facts = _facts(parts, picker)
            kind = KINDS[number % len(KINDS)]
            other = _changed(facts, kind, parts, picker)
            right = _text(parts, other)
            if number % 2:  # printed at another time as well
                right = picker.choice(CHANGES[:3])[1](right, parts, picker)
            found.append(TemplatePair(domain, kind, _text(parts, facts), right, True))
            facts = _facts(parts, picker)
            name, change = CHANGES[number % len(CHANGES)]
            found.append(
                TemplatePair(domain, name, _text(parts, facts), change(_text(parts, facts), parts, picker), False)
            )
    return found


Facts = dict[str, str]
Parts = dict[str, list[str]]


def _facts(parts: Parts, picker: random.Random) -> Facts:
    return {
        "name": picker.choice(parts["name"]), "number": str(picker.randrange(3, 99)),
        "other": picker.choice(parts["other"]), "negated": parts["negated"][0],
    }  # fmt: skip


def _changed(facts: Facts, kind: str, parts: Parts, picker: random.Random) -> Facts:
    if kind == "number":
        return {**facts, "number": str(int(facts["number"]) + picker.randrange(1, 40))}
    if kind == "negation":
        return {**facts, "negated": parts["negated"][1]}
    return {**facts, kind: picker.choice([one for one in parts[kind] if one != facts[kind]])}


def _text(parts: Parts, facts: Facts) -> str:
    title, *body = (line.format(**facts) for line in parts["form"])
    blank = "" if "，" in "".join(body) or "。" in "".join(body) else " "
    middle = len(body) // 2
    return f"{title}\n\n{blank.join(body[:middle])}\n\n{blank.join(body[middle:])}"


def _header(text: str, parts: Parts, picker: random.Random) -> str:
    return f"{picker.choice(parts['around'])}\n{text}"


def _footer(text: str, parts: Parts, picker: random.Random) -> str:
    return f"{text}\n\n{picker.choice(parts['around'])}"


def _both_dated(text: str, parts: Parts, picker: random.Random) -> str:
    stamp = parts["around"][0]
    return f"{stamp.replace('2024', str(picker.randrange(2015, 2024)))}\n{text}\n{parts['around'][1]}"


def _wrapped(text: str, parts: Parts, picker: random.Random) -> str:
    lines = []
    for paragraph in text.split("\n\n"):
        words = paragraph.split(" ")
        lines += [" ".join(words[at : at + 9]) for at in range(0, len(words), 9)] + [""]
    return "\n".join(lines)


def _longer(text: str, parts: Parts, picker: random.Random) -> str:
    return f"{text}\n\n{parts['more'][0]}"


CHANGES: tuple[tuple[str, Callable[[str, Parts, random.Random], str]], ...] = (
    ("header", _header), ("footer", _footer), ("dates", _both_dated), ("white space", _wrapped), ("paragraph", _longer),
)  # fmt: skip
