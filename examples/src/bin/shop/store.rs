//! The database: a few SQLite connections, and the queries as methods. SQLite blocks, so each query runs on a
//! blocking thread, inside its span.

use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing_usdt::tracing::{self, Instrument, error, info_span, instrument};

const CONNECTIONS: usize = 4;
const PRODUCTS: u64 = 50;
const PAST_ORDERS: u64 = 100_000;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE products (
        id    INTEGER PRIMARY KEY,
        name  TEXT NOT NULL,
        cents INTEGER NOT NULL,
        stock INTEGER NOT NULL CONSTRAINT in_stock CHECK (stock >= 0)
    );
    CREATE TABLE orders (
        id        INTEGER PRIMARY KEY,
        product   INTEGER NOT NULL REFERENCES products,
        quantity  INTEGER NOT NULL CONSTRAINT something_ordered CHECK (quantity > 0),
        confirmed INTEGER NOT NULL DEFAULT 0
    );";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no product {0}")]
    NoProduct(i64),
    #[error("not enough of product {product} in stock")]
    OutOfStock { product: i64, source: rusqlite::Error },
    #[error("database error: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the query did not finish: {0}")]
    Unfinished(#[from] tokio::task::JoinError),
    #[error("the database is closed: {0}")]
    Closed(#[from] tokio::sync::AcquireError),
}

#[derive(Serialize)]
pub(crate) struct Product {
    id: i64,
    name: String,
    pub(crate) cents: i64,
    stock: i64,
}

impl Product {
    fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, name: row.get(1)?, cents: row.get(2)?, stock: row.get(3)? })
    }
}

#[derive(Serialize)]
pub(crate) struct Sales {
    pub(crate) name: String,
    pub(crate) orders: i64,
    pub(crate) cents: i64,
}

pub(crate) struct Store {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// As many permits as connections: the holder of a permit finds an idle connection.
    permits: Arc<Semaphore>,
}

impl Store {
    /// Creates a database at `path`, with products and orders.
    #[instrument(skip_all, err)]
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "synchronous", "off")?;
            connections.push(connection);
        }
        seed(&mut connections[0])?;
        let idle = Arc::new(Mutex::new(connections));
        Ok(Self { idle, permits: Arc::new(Semaphore::new(CONNECTIONS)) })
    }

    #[instrument(skip_all)]
    pub(crate) async fn products(&self) -> Result<Vec<Product>, Error> {
        let sql = "SELECT id, name, cents, stock FROM products ORDER BY name";
        self.run(sql, move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_map([], Product::from_row)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    #[instrument(skip(self))]
    pub(crate) async fn product(&self, id: i64) -> Result<Option<Product>, Error> {
        let sql = "SELECT id, name, cents, stock FROM products WHERE id = ?1";
        self.run(sql, move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row([id], Product::from_row).optional()?)
        })
        .await
    }

    /// Other products that a customer might like.
    #[instrument(skip(self))]
    pub(crate) async fn related(&self, id: i64) -> Result<Vec<Product>, Error> {
        let sql = "SELECT id, name, cents, stock FROM products WHERE id <> ?1 ORDER BY abs(id - ?1) LIMIT 3";
        self.run(sql, move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_map([id], Product::from_row)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Takes from the stock and writes the order, in one transaction.
    #[instrument(skip(self))]
    pub(crate) async fn reserve(&self, product: i64, quantity: i64) -> Result<i64, Error> {
        let sql = "UPDATE products SET stock = stock - ?2 WHERE id = ?1";
        self.run(sql, move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let updated = transaction
                .execute(sql, [product, quantity])
                .map_err(|source| Error::OutOfStock { product, source })?;
            if updated == 0 {
                return Err(Error::NoProduct(product));
            }
            let insert = "INSERT INTO orders (product, quantity) VALUES (?1, ?2)";
            transaction.execute(insert, [product, quantity])?;
            let order = transaction.last_insert_rowid();
            transaction.commit()?;
            Ok(order)
        })
        .await
    }

    #[instrument(skip(self))]
    pub(crate) async fn confirm(&self, order: i64) -> Result<(), Error> {
        let sql = "UPDATE orders SET confirmed = 1 WHERE id = ?1";
        self.run(sql, move |connection| Ok(connection.execute(sql, [order]).map(drop)?)).await
    }

    /// Refills products that are low, and returns their number.
    #[instrument(skip(self))]
    pub(crate) async fn restock(&self, below: i64) -> Result<usize, Error> {
        let sql = "UPDATE products SET stock = stock + 100 WHERE stock < ?1";
        self.run(sql, move |connection| Ok(connection.execute(sql, [below])?)).await
    }

    /// Reads every order, because there is no index.
    #[instrument(skip_all)]
    pub(crate) async fn sales(&self) -> Result<Vec<Sales>, Error> {
        let sql = "SELECT name, count(*), sum(quantity * cents) FROM products, orders
            WHERE +orders.product = products.id GROUP BY name ORDER BY 3 DESC";
        self.run(sql, move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let sales = statement.query_map([], |row| {
                Ok(Sales { name: row.get(0)?, orders: row.get(1)?, cents: row.get(2)? })
            })?;
            Ok(sales.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Waits for a connection, then does `work` with it on a blocking thread.
    async fn run<T: Send + 'static>(
        &self,
        sql: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().instrument(info_span!("pool.acquire")).await?;
        let idle = Arc::clone(&self.idle);
        let span = info_span!("sqlite", otel.kind = "client", db.system.name = "sqlite", db.query.text = sql);
        let blocking = move || {
            let _permit = permit;
            let _inside = span.enter();
            let connection = lock(&idle).pop();
            let mut connection = connection.ok_or(rusqlite::Error::InvalidQuery)?;
            let result = work(&mut connection);
            lock(&idle).push(connection);
            if let Err(error) = &result {
                // This span records SQLite's own error. The spans above record its meaning for the shop.
                error!(error = error.source().unwrap_or(error));
            }
            result
        };
        tokio::task::spawn_blocking(blocking).await?
    }
}

fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[instrument(skip_all)]
fn seed(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch(SCHEMA)?;
    let transaction = connection.transaction()?;
    {
        let mut product = transaction.prepare("INSERT INTO products VALUES (?1, ?2, ?3, 100)")?;
        for id in 1..=PRODUCTS {
            product.execute(params![id, format!("Product {id}"), 250 + 37 * id])?;
        }
        let mut order = transaction.prepare("INSERT INTO orders (product, quantity) VALUES (?1, ?2)")?;
        for number in 0..PAST_ORDERS {
            order.execute([1 + number * number % PRODUCTS, 1 + number % 3])?;
        }
    }
    transaction.commit()?;
    tracing::info!(products = PRODUCTS, orders = PAST_ORDERS, "database filled");
    Ok(())
}
