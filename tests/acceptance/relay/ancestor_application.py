"""An application as it was written for flask_signalbus, Signalbus' ancestor, with that library's habits."""

APPLICATION = """
import json
import os

import pika
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from swpt_pythonlib.flask_signalbus import AtomicProceduresMixin, DBSerializationError, SignalBusMixin
from swpt_pythonlib.rabbitmq import Message, MessageProperties, Publisher


class CustomSQLAlchemy(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
    pass


db = CustomSQLAlchemy()
publisher = Publisher(url_config_key="PROTOCOL_BROKER_URL")


class Account(db.Model):
    debtor_id = db.Column(db.BigInteger, primary_key=True)
    creditor_id = db.Column(db.BigInteger, primary_key=True)
    owner = db.Column(db.String, nullable=False)
    principal = db.Column(db.BigInteger, nullable=False, default=0)
    last_change = db.Column(db.TIMESTAMP(timezone=True), server_default=db.func.now(), onupdate=db.func.now())
    notes = db.relationship("Note", order_by="Note.note_id")


class Note(db.Model):
    __table_args__ = (
        db.ForeignKeyConstraint(["debtor_id", "creditor_id"], ["account.debtor_id", "account.creditor_id"]),
    )
    note_id = db.Column(db.BigInteger, primary_key=True)
    debtor_id = db.Column(db.BigInteger, nullable=False)
    creditor_id = db.Column(db.BigInteger, nullable=False)
    text = db.Column(db.String, nullable=False)


class Statistics(db.Model):
    __bind_key__ = "away"
    statistics_id = db.Column(db.BigInteger, primary_key=True)


class TransferSignal(db.Model):
    signalbus_burst_count = 5000

    debtor_id = db.Column(db.BigInteger, primary_key=True)
    creditor_id = db.Column(db.BigInteger, primary_key=True)
    transfer_number = db.Column(db.BigInteger, primary_key=True)
    amount = db.Column(db.BigInteger, nullable=False)

    def _create_message(self):
        return Message(
            exchange=os.environ["TEST_EXCHANGE"],
            routing_key="transfer",
            body=json.dumps({"amount": self.amount}).encode("utf8"),
            properties=MessageProperties(delivery_mode=2, content_type="application/json", type="Transfer"),
            mandatory=True,
        )

    @classmethod
    def send_signalbus_messages(cls, objects):
        assert all(isinstance(obj, cls) for obj in objects)
        publisher.publish_messages([obj._create_message() for obj in objects])

    def send_signalbus_message(self):
        self.send_signalbus_messages([self])


class PurgeSignal(db.Model):
    signalbus_burst_count = 100

    purge_id = db.Column(db.BigInteger, primary_key=True, autoincrement=True)
    reason = db.Column(db.String, nullable=False)

    @classmethod
    def send_signalbus_messages(cls, objects):
        parameters = pika.URLParameters(os.environ["PROTOCOL_BROKER_URL"])
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            for obj in objects:
                channel.basic_publish(os.environ["TEST_EXCHANGE"], "purge", obj.reason.encode("utf8"), mandatory=True)
        finally:
            connection.close()

    def send_signalbus_message(self):
        self.send_signalbus_messages([self])


def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_DATABASE_URL"]
    app.config["SQLALCHEMY_BINDS"] = {"away": os.environ["TEST_AWAY_URL"]}
    app.config["PROTOCOL_BROKER_URL"] = os.environ["PROTOCOL_BROKER_URL"]
    db.init_app(app)
    publisher.init_app(app)

    @app.get("/<int:debtor_id>/<int:creditor_id>")
    def show(debtor_id, creditor_id):
        account = get_account(debtor_id, creditor_id)
        notes = len(account.notes)
        transfer(debtor_id, creditor_id, 1)
        return {"owner": account.owner, "notes": notes, "texts": [note.text for note in account.notes]}

    @app.post("/<int:debtor_id>/<int:creditor_id>/<text>")
    def note(debtor_id, creditor_id, text):
        db.session.add(Note(debtor_id=debtor_id, creditor_id=creditor_id, text=text))
        transfer(debtor_id, creditor_id, 10)
        return {}

    return app


def get_account(debtor_id, creditor_id, lock=False):
    query = Account.query.filter_by(debtor_id=debtor_id, creditor_id=creditor_id)
    if lock:
        query = query.with_for_update()
    return query.one_or_none()


@db.atomic
def transfer(debtor_id, creditor_id, amount):
    account = get_account(debtor_id, creditor_id)
    account.principal += amount
    number = 1 + db.session.query(db.func.count()).select_from(TransferSignal).scalar()
    db.session.add(
        TransferSignal(debtor_id=debtor_id, creditor_id=creditor_id, transfer_number=number, amount=amount)
    )
    return account


@db.atomic
def get_or_create_account(debtor_id, creditor_id, owner, on_try=lambda: None):
    account = get_account(debtor_id, creditor_id)
    on_try()
    if account is None:
        account = Account(debtor_id=debtor_id, creditor_id=creditor_id, owner=owner)
        with db.retry_on_integrity_error():
            db.session.add(account)
    return account


def try_transfer(debtor_id, creditor_id, amount):
    try:
        return transfer(debtor_id, creditor_id, amount)
    except DBSerializationError:
        return None


def flush_or_complain(models):
    try:
        return db.signalbus.flushmany(models)
    except RuntimeError:
        return "This is no signal."
"""
