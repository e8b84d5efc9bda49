"""What posters say, in six languages: whole phrases, so that nothing has to be inflected."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Texts:
    """
    Attributes:
        name: of the language, in English.
        months: twelve, with spaces between, as a date has them.
        date: with {day}, {month} and {year}.
        at: what stands in front of the time.
        price: with {price}, in whole euros.
    """

    name: str
    titles: tuple[str, ...]
    bodies: tuple[str, ...]
    places: tuple[str, ...]
    badges: tuple[str, ...]
    months: str
    date: str
    at: str
    price: str
    free: str


LANGUAGES: dict[str, Texts] = {
    "en": Texts(
        "English",
        (
            "Jazz in the Old Garden",
            "Night of the Open Museums",
            "Spring Market",
            "Stories by the Fire",
            "The Great Book Sale",
            "Science for Everyone",
            "Open Air Cinema",
            "Harbour Run",
            "Choir of the Valley",
            "Bread and Cheese Fair",
        ),
        (
            "Come early, bring a friend and stay as long as you like.",
            "Three small stages, warm food and music until midnight.",
            "Please leave your car at home and take the bus to the river.",
            "Children under twelve have to be with a grown person.",
            "In bad weather everything takes place in the town hall.",
            "Our guests read from letters that nobody has seen before.",
            "Bring your own cup, the first coffee is on the house.",
            "Tickets are sold at the door, as long as there are any.",
        ),
        ("Town Hall", "Mill Lane 7", "Harbour Stage", "West Park", "Old Station", "Library Court"),
        ("New this year!", "Last tickets!", "For all ages", "Live on stage", "Only one night!"),
        "January February March April May June July August September October November December",
        "{day} {month} {year}",
        "at",
        "Admission {price} euros",
        "Admission free",
    ),
    "de": Texts(
        "German",
        (
            "Jazz im alten Garten",
            "Lange Nacht der Bücher",
            "Großer Frühlingsmarkt",
            "Geschichten am Kamin",
            "Kino unter freiem Himmel",
            "Chöre aus dem Süden",
            "Brot und Käse vom Land",
            "Werkstatt für junge Köche",
        ),
        (
            "Kommen Sie früh und bleiben Sie, so lange Sie möchten.",
            "Drei kleine Bühnen, warmes Essen und Musik bis Mitternacht.",
            "Bitte lassen Sie das Auto zu Hause und nehmen Sie den Bus.",
            "Bei schlechtem Wetter findet alles im Rathaus statt.",
            "Für Kinder gibt es Märchen, Äpfel und süße Brötchen.",
            "Karten gibt es an der Tür, solange der Vorrat reicht.",
        ),
        ("Altes Rathaus", "Mühlgasse 7", "Bühne am Hafen", "Westpark", "Güterbahnhof", "Schlosshof"),
        ("Neu in diesem Jahr!", "Letzte Karten!", "Für Groß und Klein", "Nur eine Nacht!"),
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "{day}. {month} {year}",
        "um",
        "Eintritt {price} Euro",
        "Eintritt frei",
    ),
    "fr": Texts(
        "French",
        (
            "Jazz au vieux jardin",
            "La nuit des musées",
            "Marché de printemps",
            "Contes au coin du feu",
            "Cinéma en plein air",
            "Fête de la forêt",
            "Le goût du pain",
            "Théâtre à la gare",
        ),
        (
            "Venez tôt, avec des amis, et restez jusqu'à la fin.",
            "Trois petites scènes, un repas chaud et de la musique.",
            "Laissez la voiture chez vous et prenez le bus de la rivière.",
            "En cas de pluie, tout se passe dans la grande salle.",
            "Les élèves présentent ce qu'ils ont préparé cet été.",
            "Les billets sont vendus à l'entrée, le soir même.",
        ),
        ("Hôtel de ville", "7 rue du Moulin", "Scène du port", "Parc de l'Ouest", "Vieille gare", "Cour du château"),
        ("Nouveau cette année !", "Derniers billets !", "Pour tous les âges", "Une seule nuit !"),
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "{day} {month} {year}",
        "à",
        "Entrée {price} euros",
        "Entrée libre",
    ),
    "es": Texts(
        "Spanish",
        (
            "Jazz en el jardín",
            "Noche de los museos",
            "Mercado de primavera",
            "Cuentos junto al fuego",
            "Cine al aire libre",
            "Canción de otoño",
            "Feria del pan y del queso",
            "Mañana de los niños",
        ),
        (
            "Ven pronto, trae a tus amigos y quédate hasta el final.",
            "Tres escenarios pequeños, comida caliente y música.",
            "Deja el coche en casa y toma el autobús del río.",
            "Si llueve, todo tendrá lugar en el salón de actos.",
            "Los niños pequeños entran con una persona mayor.",
            "¿Te gusta leer? Aquí hay más de mil libros usados.",
        ),
        ("Ayuntamiento", "Calle del Molino 7", "Escenario del puerto", "Parque del Oeste", "Estación vieja"),
        ("¡Nuevo este año!", "¡Últimas entradas!", "Para todas las edades", "¡Solo una noche!"),
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "{day} de {month} de {year}",
        "a las",
        "Entrada {price} euros",
        "Entrada libre",
    ),
    "ru": Texts(
        "Russian",
        (
            "Джаз в старом саду",
            "Ночь музеев",
            "Весенняя ярмарка",
            "Сказки у огня",
            "Кино под открытым небом",
            "Песни нашей реки",
            "Большая книжная ярмарка",
            "Наука для всех",
        ),
        (
            "Приходите раньше, берите друзей и оставайтесь до конца.",
            "Три маленькие сцены, горячая еда и музыка до полуночи.",
            "Оставьте машину дома и приезжайте на автобусе.",
            "В плохую погоду всё пройдёт в городском зале.",
            "Дети до двенадцати лет приходят вместе со взрослыми.",
            "Билеты продаются у входа, пока они ещё есть.",
        ),
        ("Городской зал", "Мельничная улица, 7", "Сцена у реки", "Западный парк", "Старый вокзал"),
        ("Впервые в этом году!", "Последние билеты!", "Для всей семьи", "Только одну ночь!"),
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "{day} {month} {year} года",
        "в",
        "Вход {price} евро",
        "Вход свободный",
    ),
    "el": Texts(
        "Greek",
        (
            "Τζαζ στον παλιό κήπο",
            "Η νύχτα των μουσείων",
            "Ανοιξιάτικη αγορά",
            "Ιστορίες δίπλα στη φωτιά",
            "Σινεμά κάτω από τα αστέρια",
            "Τραγούδια της θάλασσας",
            "Γιορτή του βιβλίου",
            "Επιστήμη για όλους",
        ),
        (
            "Ελάτε νωρίς, φέρτε φίλους και μείνετε ως το τέλος.",
            "Τρεις μικρές σκηνές, ζεστό φαγητό και μουσική.",
            "Αφήστε το αυτοκίνητο στο σπίτι και πάρτε το λεωφορείο.",
            "Σε περίπτωση βροχής όλα γίνονται στο δημαρχείο.",
            "Τα παιδιά έρχονται μαζί με έναν μεγάλο.",
            "Εισιτήρια υπάρχουν στην είσοδο το ίδιο βράδυ.",
        ),
        ("Δημαρχείο", "Οδός Μύλου 7", "Σκηνή στο λιμάνι", "Δυτικό πάρκο", "Παλιός σταθμός"),
        ("Νέο φέτος!", "Τελευταία εισιτήρια!", "Για όλες τις ηλικίες", "Μόνο μία νύχτα!"),
        "Ιανουαρίου Φεβρουαρίου Μαρτίου Απριλίου Μαΐου Ιουνίου Ιουλίου Αυγούστου "
        "Σεπτεμβρίου Οκτωβρίου Νοεμβρίου Δεκεμβρίου",
        "{day} {month} {year}",
        "στις",
        "Είσοδος {price} ευρώ",
        "Είσοδος ελεύθερη",
    ),
}
